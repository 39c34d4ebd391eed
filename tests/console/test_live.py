"""Pages that are open, while others change what they show."""

from collections.abc import Callable

from playwright.sync_api import Browser, Page, expect

from tests.support.browsers import Visit, visit
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.users import PASSWORD, add_person

PARTS = ("", "/values", "/manifest", "/history", "/change", "/diff?to=live")


def test_open_pages_of_a_release_tell_what_another_person_and_the_command_line_do_with_it(  # noqa: PLR0917 (fixtures)
    person: Visit, browser: Browser, server: RunningServer, namespace: str, helm_cli: HelmCommand,
    charts: dict[str, str], install: Callable[[str], None],
):  # fmt: skip
    install("shop")
    context = person.page.context
    context.clock.install()
    tabs: dict[str, Page] = {}
    for part in PARTS:
        tabs[part] = context.new_page()
        tabs[part].goto(f"{person.home}/releases/test/{namespace}/shop{part}")
        tabs[part].evaluate("window.same = true")
        expect(tabs[part].locator("main .lead").first).to_contain_text("revision 1")
    tabs["/change"].evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    tabs["/change"].get_by_label("Description").fill("what is typed stays")

    colleague = add_person(server, "te_admin")
    answer = OneRelease(colleague.server, namespace, "shop", helm_cli).update(
        chart_id=charts["stuck"], headers={"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "300"}
    )
    assert answer.status_code == 200, answer.text
    for tab in tabs.values():
        tab.clock.fast_forward("00:16")
        expect(tab.locator("main .notice").first).to_contain_text(f"Upgrade is running, ordered by {colleague.name}")
    expect(tabs[""].locator(".feed").first).to_contain_text("Running")
    expect(tabs["/history"].locator("tbody tr")).to_have_count(2)
    with visit(browser, server) as other:
        other.log_in(name=colleague.name, password=PASSWORD)
        other.page.goto(f"{person.home}/operations/{answer.headers['x-operation-id']}/cancel")
        other.page.get_by_role("button", name="Cancel the upgrade").click()
    for tab in tabs.values():
        expect(tab.locator("main .lead").first).to_contain_text("revision 3", timeout=30_000)
        expect(tab.get_by_text("Upgrade is")).to_have_count(0, timeout=30_000)
    expect(tabs["/history"].locator("tbody tr")).to_have_count(3)
    expect(tabs["/values"].locator("main h2")).to_have_text("Values of revision 3")
    expect(tabs["/manifest"].locator("main h2")).to_have_text("Rendered objects of revision 3")
    expect(tabs["/change"].get_by_label("Description")).to_have_value("what is typed stays")

    done = server.command("uninstall", "shop", "-n", namespace, "--cluster", "test")
    assert done.returncode == 0, done.stderr
    for tab in tabs.values():
        tab.clock.fast_forward("00:16")
        expect(tab.locator("main .notice").first).to_contain_text("It is not there any more", timeout=30_000)
        assert tab.evaluate("window.same"), "it was not loaded again"
    install("shop")
    tabs["/history"].clock.fast_forward("00:16")
    expect(tabs["/history"].locator("tbody tr")).to_have_count(1)

"""Two revisions compared: objects, values and notes, as far as one may read them."""

import re
from collections.abc import Callable

from playwright.sync_api import Browser, expect

from tests.support.browsers import Visit, visit
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.users import PASSWORD, add_person

MINUS = "\N{MINUS SIGN}"


def test_any_two_revisions_are_compared_with_their_values_and_notes(  # noqa: PLR0917 (fixtures)
    person: Visit, browser: Browser, server: RunningServer, namespace: str, helm_cli: HelmCommand,
    charts: dict[str, str], install: Callable[[str], None],
):  # fmt: skip
    install("shop")
    release = OneRelease(server, namespace, "shop", helm_cli)
    for text in ("a second text", "a third text"):
        assert release.update(chart_id=charts["next"], values={"text": text}).status_code == 200
        release.settled()
    page = person.page
    person.open_release(namespace, "shop", "/history")
    page.locator("select[name=from]").select_option("2")
    page.get_by_role("button", name="Show").click()
    values, notes = (page.locator(".card", has=page.get_by_role("heading", name=name)) for name in ("Values", "Notes"))
    expect(values.locator(".titles")).to_have_text(re.compile(r"^\s*Revision 2\s*Revision 3\s*$"))
    expect(values.locator("tr.changed .was")).to_have_text(f'{MINUS} text: "a second text"')
    expect(values.locator("tr.changed .is")).to_have_text('+ text: "a third text"')
    expect(notes.locator("tr.changed .was")).to_have_text(f"{MINUS} Say a second text")
    expect(notes.locator("tr.changed .is")).to_have_text("+ Say a third text")
    person.inspect("diff-with-notes")
    person.open_release(namespace, "shop", "/diff?from=1&to=3")
    expect(values.locator("tr.added .is")).to_have_text('+ text: "a third text"')
    person.open_release(namespace, "shop", "/diff?from=3&to=3")
    expect(values).to_contain_text("They are the same.")
    expect(notes).to_contain_text("They are the same.")

    reader = add_person(server, "readonly")
    with visit(browser, server) as other:
        other.log_in(name=reader.name, password=PASSWORD)
        other.open_release(namespace, "shop", "/diff?from=2&to=3")
        expect(other.page.locator("main")).to_contain_text("Values are masked; to read them takes")
        expect(other.page.locator("main")).to_contain_text("They are the same, as far as you may see them.")
        for text in ("a second text", "a third text"):
            assert text not in other.page.content()

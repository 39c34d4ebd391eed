"""What a narrow window shows: the tab that one is at, and fields that differ in lines that can be read."""

from collections.abc import Callable

from playwright.sync_api import Browser, expect

from tests.support.browsers import PHONE, visit
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer


def test_the_present_tab_is_in_sight(browser: Browser, server: RunningServer):
    with visit(browser, server, size=(250, 600)) as person:
        person.log_in()
        person.page.goto(f"{person.home}/access")
        tab = person.page.locator(".tabs [aria-current]")
        expect(tab).to_contain_text("Access")
        box = tab.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 250


def test_fields_that_differ_have_the_width_of_a_phone(  # noqa: PLR0917 (fixtures)
    browser: Browser, server: RunningServer, namespace: str, helm_cli: HelmCommand, charts: dict[str, str],
    install: Callable[[str], None],
):  # fmt: skip
    install("wide")
    one = OneRelease(server, namespace, "wide", helm_cli)
    assert one.update(chart_id=charts["next"], values={"text": "second"}).status_code == 200
    one.settled()
    with visit(browser, server, size=PHONE) as person:
        person.log_in()
        person.open_release(namespace, "wide", "/diff?from=1&to=2")
        for side, said in (("old", "hello"), ("new", "second")):
            cell = person.page.locator(f"td.{side}", has_text=said).first
            box = cell.bounding_box()
            assert box is not None
            assert box["width"] > 200, side
        assert person.overflow() <= 0
        person.page.goto(f"{person.home}/install?chart={charts['plain']}")
        person.page.get_by_text("Options").click()
        for name in ("wait", "crds", "chart"):
            box = person.page.locator(f"form.card [name={name}]").bounding_box()
            assert box is not None
            assert box["width"] > 200, name

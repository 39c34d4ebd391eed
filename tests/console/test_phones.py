"""What a narrow window shows: the tab that one is at, the columns of a list, and fields in lines that can be read."""

import re
from collections.abc import Callable

from playwright.sync_api import Browser, expect

from tests.support.browsers import PHONE, Visit, visit
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


def test_rows_without_room_for_columns_are_cards_that_name_them_and_keep_the_order_to_choose(
    browser: Browser, server: RunningServer, namespace: str, install: Callable[[str], None]
):
    install("carded")
    with visit(browser, server, size=PHONE) as person:
        person.log_in()
        page = person.page
        page.goto(f"{person.home}/releases?namespace={namespace}")
        for name in ("Cluster", "Chart", "Changed"):
            cell = page.locator(f"td[data-label={name}]")
            assert cell.evaluate("one => getComputedStyle(one, '::before').content") == f'"{name}"'
        page.get_by_role("link", name="Chart", exact=True).click()
        expect(page).to_have_url(re.compile("sort=chart"))
        page.set_viewport_size({"width": 1440, "height": 900})
        assert cell.evaluate("one => getComputedStyle(one, '::before').content") == "none"


def test_the_audit_breaks_no_word_of_an_action_and_needs_no_scrolling(person: Visit, install: Callable[[str], None]):
    install("a-name-as-long-as-helm-takes-it-for-a-release-1234567")
    page = person.page
    page.goto(f"{person.home}/audit")
    for width in (360, 768, 1024, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        expect(page.locator("tbody tr").first).to_be_visible()
        assert person.overflow() <= 0, width
        assert page.locator(".scroll").evaluate("one => one.scrollWidth - one.clientWidth") <= 0, width
        broken = "all => all.filter(one => one.getClientRects().length > 1).map(one => one.textContent)"
        assert page.locator("td.first code span").evaluate_all(broken) == [], width


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

"""The browser's way back: over pages that answered a form, and after orders, without sending anything again."""

import re
import uuid
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.console.test_bulk import choose
from tests.console.test_changes import editor, field, fill_in, type_values
from tests.support.browsers import Visit
from tests.support.chart_sources import Repository
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer


def back(page: Page) -> None:
    """Goes back; a form that the browser would have to send again is an error of its own."""
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.go_back()
    assert not page.url.startswith("chrome-error"), page.url
    assert posts == []


def test_the_way_back_to_a_form_that_was_refused_shows_it_as_it_was_typed(
    person: Visit, namespace: str, charts: dict[str, str]
):
    page = fill_in(person, namespace, "Back_", chart=charts["plain"])
    type_values(page, "text: typed\n")
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("alert")).to_contain_text("is not a release name")
    page.get_by_role("link", name="Not now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Releases")
    back(page)
    expect(field(page, "name")).to_have_value("Back_")
    expect(editor(page)).to_contain_text("text: typed")
    page.get_by_role("button", name="Show its defaults").click()
    expect(page.locator(".beside")).to_contain_text("text:")
    page.reload()
    expect(field(page, "name")).to_have_value("Back_")
    field(page, "name").fill("back")
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("button", name="Install back")).to_be_visible()
    back(page)
    expect(editor(page)).to_contain_text("text: typed")


def test_the_way_back_over_a_refused_confirmation_and_over_orders_repeats_nothing(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, install: Callable[[str], None]
):
    part = uuid.uuid4().hex[:6]
    names = [f"{letter}-{part}" for letter in "ab"]
    for name in names:
        install(name)
    page = person.page
    person.open_release(namespace, names[0], "/uninstall")
    page.get_by_label(re.compile("to confirm")).fill("other")
    page.get_by_role("button", name="Uninstall", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("type the release's name")
    page.get_by_role("link", name="Keep it").click()
    back(page)
    expect(page.get_by_label(re.compile("to confirm"))).to_be_visible()
    choose(person, namespace, *names)
    page.get_by_role("button", name="Uninstall").click()
    page.get_by_label(re.compile("to confirm")).fill("uninstall 3")
    page.get_by_role("button", name="Uninstall 2").click()
    expect(page.get_by_role("alert")).to_contain_text("type 'uninstall 2'")
    page.get_by_role("link", name="Keep them as they are").click()
    back(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Uninstall 2 releases")
    page.get_by_label(re.compile("to confirm")).fill("uninstall 2")
    page.get_by_role("button", name="Uninstall 2").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 of 2 ordered")
    expect(page).to_have_url(re.compile("/releases/bulk/ordered"))
    page.get_by_role("link", name=names[0]).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(names[0])
    for name in names:
        OneRelease(server, namespace, name, helm_cli).gone()
        install(name)
    back(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 of 2 ordered")
    expect(page.locator("tbody")).to_contain_text(names[1])
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 of 2 ordered")
    assert [OneRelease(server, namespace, name, helm_cli).statuses() for name in names] == [["deployed"]] * 2


def test_what_was_left_alone_is_told_by_the_address_of_the_orders_too(person: Visit, namespace: str):
    page = person.page
    for query, status, told in (
        (f"do=uninstall&left=test/{namespace}/alone", 200, "no order of it is known"),
        ("do=uninstall&order=x", 400, "is not an operation"),
        (f"do=uninstall&order={uuid.uuid4()}", 404, "does not exist in this project"),
        ("do=x", 400, "choose what to do"),
    ):
        answer = page.goto(f"{person.home}/releases/bulk/ordered?{query}")
        assert answer is not None
        assert answer.status == status, query
        expect(page.locator("main")).to_contain_text(told)


def test_the_way_back_after_a_cancel_that_keeps_what_is_there_cancels_nothing_again(
    person: Visit, namespace: str, helm_cli: HelmCommand, start_stuck: Callable[..., str]
):
    operation_id, page = start_stuck("kept"), person.page
    page.goto(f"{person.home}/operations/{operation_id}")
    expect(page.locator(".now")).to_contain_text("0 of 3 ready")
    page.get_by_role("link", name="Cancel").click()
    page.get_by_label("Keep what is installed so far").check()
    page.get_by_role("button", name="Cancel the install").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelled", timeout=30_000)
    assert '"status":"failed"' in helm_cli("list", "--failed", "-n", namespace, "-o", "json")
    assert "Deployment" in helm_cli("get", "manifest", "kept", "-n", namespace)
    back(page)
    expect(page.locator("main")).to_contain_text("It has ended: there is nothing to cancel.")
    page.get_by_role("link", name="See the operation").click()
    page.get_by_role("link", name="To the release").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Failed")


def test_the_way_back_after_a_cluster_a_source_and_a_user_were_added_adds_nothing_again(
    person: Visit, server: RunningServer, kubeconfig: str, source: tuple[str, Repository]
):
    page, name = person.page, f"back-{uuid.uuid4().hex[:6]}"
    forms = {
        "clusters/new": ("Add the cluster", {"Name": name, "Kubeconfig": kubeconfig}),
        "sources": ("Add the source", {"Name": name, "Address": source[1].url, "Certificates": source[1].ca}),
        "access": ("Add the user", {"Name": name}),
    }
    paths = ("clusters", "sources", "users")
    for (form, (order, fields)), path in zip(forms.items(), paths, strict=True):
        page.goto(f"{person.home}/{form}")
        person.unfold()
        for label, text in fields.items():
            page.get_by_label(re.compile(f"^{label}")).first.fill(text)
        page.get_by_role("button", name=order).click()
        expect(page.get_by_role("button", name=order)).to_have_count(0)
        back(page)
        person.unfold()
        expect(page.get_by_role("button", name=order)).to_be_visible()
        known = server.send("GET", f"/api/v1/{path}").json()
        rows = known if isinstance(known, list) else known[path]
        assert [row["name"] for row in rows].count(name) == 1, path
        named = next(row for row in rows if row["name"] == name)
        gone = server.send("DELETE", f"/api/v1/{path}/{named['name'] if path == 'sources' else named['id']}")
        assert gone.is_success, gone.text

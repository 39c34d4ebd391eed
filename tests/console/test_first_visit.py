"""What somebody new takes a page of the console to say: none says that all is well without knowing it."""

import re
import uuid
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsers import Visit, visit
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.users import PASSWORD, add_person


def test_the_filter_drifted_tells_that_nobody_has_looked_and_a_release_is_looked_at(
    person: Visit, namespace: str, install: Callable[[str], None]
):
    install("looked")
    page = person.page
    page.goto(f"{person.home}/releases?namespace={namespace}&drifted=yes")
    expect(page.locator("#list")).to_contain_text("looks for drift only when asked")
    expect(page.locator("#list")).to_contain_text("1 release was not looked at")
    person.open_release(namespace, "looked")
    expect(page.locator(".drift")).to_contain_text("Drift: not looked at yet.")
    page.get_by_role("link", name="Look for drift now").click()
    expect(page.get_by_role("heading", level=2)).to_contain_text("What differs in the cluster from revision 1")
    expect(page.locator(".drift")).to_contain_text("No drift, as of")
    page.goto(f"{person.home}/releases?namespace={namespace}&drifted=yes")
    expect(page.locator("#list")).not_to_contain_text("not looked at")


def test_no_role_is_chosen_beforehand_and_the_widest_is_asked_for_twice(person: Visit, server: RunningServer):
    somebody = add_person(server)
    page = person.page
    page.goto(f"{person.home}/access/users/{somebody.id}")
    page.get_by_text("Grant a role").click()
    role, where = page.locator("#roles select[name=role]"), page.locator("#roles select[name=project]")
    expect(role).to_have_value("")
    expect(where).to_have_value("")
    assert role.locator("option").nth(1).get_attribute("value") == "CCE ReadOnlyAccess"
    role.select_option("te_admin")
    where.select_option("in the whole account")
    page.get_by_role("button", name="Grant").click()
    expect(page.locator("#roles").get_by_role("alert")).to_contain_text("may do everything")
    assert server.send("GET", f"/api/v1/users/{somebody.id}").json()["roles"] == []
    page.get_by_label("Yes, administrator of the whole account").check()
    page.get_by_role("button", name="Grant").click()
    expect(page.locator("#roles")).to_contain_text("te_admin (administrator) in the whole account")


def test_who_has_no_role_is_told_whom_to_ask(browser: Browser, server: RunningServer):
    somebody = add_person(server)
    with visit(browser, server) as they:
        they.page.goto("/console/")
        they.page.get_by_label("Name", exact=True).fill(somebody.name)
        they.page.get_by_label("Password").fill(PASSWORD)
        they.page.get_by_role("button", name="Log in").click()
        expect(they.page.locator("main")).to_contain_text("An administrator of the account")
        expect(they.page.locator("main")).to_contain_text(f"your user name, {somebody.name}")
        expect(they.page.locator("main")).not_to_contain_text("pilothouse user grant")


def test_the_end_of_ones_own_key_is_told_before_and_at_the_log_in(browser: Browser, server: RunningServer):
    somebody = add_person(server, "readonly")
    with visit(browser, server) as own:
        own.log_in(name=somebody.name, password=PASSWORD)
        page = own.page
        page.goto("/console/account")
        expect(page.locator("#keys")).to_contain_text("this one too: you are logged out")
        page.locator("#keys").get_by_text("Change", exact=True).first.click()
        page.get_by_role("button", name="Disable and log out").first.click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        expect(page.get_by_role("status").first).to_contain_text("You disabled or deleted an access key")


def test_a_session_that_ended_beside_is_told_at_the_log_in(browser: Browser, server: RunningServer):
    somebody = add_person(server, "readonly")
    with visit(browser, server) as own:
        own.log_in(name=somebody.name, password=PASSWORD)
        server.send("DELETE", f"/api/v1/accesskeys/{somebody.server.access_key}")
        own.page.goto(f"{own.home}/releases")
        expect(own.page.get_by_role("status").first).to_contain_text("Your session has ended")


def test_a_new_key_is_copied_by_a_button(person: Visit):
    page = person.page
    page.goto("/console/account")
    page.get_by_text("Make an access key").click()
    page.get_by_role("button", name="Make the key").click()
    copies = page.locator(".now").get_by_role("button", name="Copy")
    expect(copies).to_have_count(2)
    copies.last.click()
    expect(page.locator(".now").get_by_role("button", name=re.compile("Copied|Selected"))).to_have_count(1)


def test_the_audit_shows_changes_with_place_and_end_and_reads_when_asked(
    person: Visit, server: RunningServer, namespace: str, start_stuck: Callable[..., str]
):
    operation_id = start_stuck("audited", seconds=1)
    wait_for(lambda: server.send("GET", f"/api/v1/operations/{operation_id}").json()["state"] == "failed")
    person.open_release(namespace, "audited", "/history")
    key, page = f"{server.cluster_id}/{namespace}/audited", person.page
    wait_for(lambda: "pilothouse:values:read" in server.send("GET", f"/api/v1/audit?target={key}").text)
    page.goto(f"{person.home}/audit?target={key}")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("Failed")
    expect(page.locator("tbody tr td[data-label=Where]")).to_contain_text(f"test {namespace}", use_inner_text=True)
    for outcome, count in (("Done", 0), ("Succeeded", 0), ("Failed", 1)):
        page.get_by_label("Outcome").select_option(label=outcome)
        page.get_by_role("button", name="Search").click()
        expect(page.locator("tbody tr")).to_have_count(count)
    page.get_by_label("Outcome").select_option(label="Any outcome")
    page.get_by_label("Reads, too").check()
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody")).to_contain_text("pilothouse:values:read")
    expect(page.locator("tbody").get_by_role("link", name="audited", exact=True)).to_have_count(2)
    times = [one.get_attribute("datetime") or "" for one in page.locator("tbody time").all()]
    assert times == sorted(times, reverse=True)
    page.get_by_label("To", exact=True).fill("2001-01-31")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("main")).to_contain_text("Nothing matches.")
    for day in ("9999-12-31", "yesterday"):
        answer = page.goto(f"{person.home}/audit?to={day}")
        assert answer is not None
        assert answer.status == 400


def test_from_a_row_of_the_audit_it_is_two_steps_to_what_was_changed(  # noqa: PLR0917 (fixtures)
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, charts: dict[str, str],
    install: Callable[[str], None],
):  # fmt: skip
    install("traced")
    page, one = person.page, OneRelease(server, namespace, "traced", helm_cli)
    person.open_release(namespace, "traced", "/change")
    page.get_by_role("button", name="Plan it").click()
    page.get_by_role("button", name="Upgrade traced").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    assert one.update(chart_id=charts["next"], values={"text": "third"}).status_code == 200
    one.settled()
    page.goto(f"{person.home}/audit?target={server.cluster_id}/{namespace}/traced")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.get_by_role("link", name="traced", exact=True)).to_have_count(3)
    rows.nth(1).get_by_role("link", name="operation").click()
    page.get_by_role("link", name="The plan that was applied").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("traced")
    assert "/plans/" in page.url
    page.go_back()
    page.get_by_role("link", name="Revision 1 compared with 2").click()
    expect(page.get_by_role("heading", level=2).first).to_contain_text("From revision 1 to 2")
    page.goto(f"{person.home}/audit?target={server.cluster_id}/{namespace}/traced")
    rows.nth(0).get_by_role("link", name="operation").click()
    expect(page.get_by_role("link", name="The plan that was applied")).to_have_count(0)
    page.get_by_role("link", name="Revision 2 compared with 3").click()
    expect(page.locator("main")).to_contain_text("third")
    page.goto(f"{person.home}/audit?target={server.cluster_id}/{namespace}/traced")
    rows.nth(2).get_by_role("link", name="operation").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Install")
    expect(page.get_by_role("link", name=re.compile("compared with"))).to_have_count(0)
    page.go_back()
    rows.nth(2).get_by_role("link", name="traced", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("traced")
    expect(page.locator(".lead").first).to_contain_text("revision 3")


def test_operations_tell_who_ordered_them_and_are_found_by_the_release(person: Visit, install: Callable[[str], None]):
    name = f"op-{uuid.uuid4().hex[:6]}"
    install(name)
    page = person.page
    page.goto(f"{person.home}/operations")
    page.get_by_role("searchbox").fill(name)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("by admin")
    expect(page.get_by_role("link", name="Succeeded 1", exact=True)).to_be_visible()
    expect(page.locator(".chips a")).to_have_count(2)
    page.goto(f"{person.home}/operations?release={name}&state=failed")
    expect(page.get_by_role("link", name="Failed 0", exact=True)).to_be_visible()
    expect(page.locator("main")).to_contain_text("No operation matches.")
    page.get_by_role("link", name="All 1", exact=True).click()
    page.locator("tbody").get_by_role("link", name=name).click()
    expect(page.locator(".lead")).to_contain_text("by admin")


def test_times_have_their_date_unless_it_is_todays_and_their_zone(
    person: Visit, browser: Browser, server: RunningServer, install: Callable[[str], None]
):
    name = f"timed-{uuid.uuid4().hex[:6]}"
    install(name)
    page, shown = person.page, person.page.locator(".timeline time").last
    page.goto(f"{person.home}/operations?release={name}")
    page.goto(page.locator("tbody .name").get_attribute("href") or "")
    made = datetime.fromisoformat(shown.get_attribute("datetime") or "").astimezone(ZoneInfo("Europe/Berlin"))
    time, day = r"\d\d:\d\d:\d\d\s[AP]M", f"{made:%b} {made.day}"
    elsewhere = f"{made.year}-12-31T12:00:00Z" if made.month < 12 else f"{made.year}-01-01T12:00:00Z"
    for clock, said in (
        (made, f"^{time}$"), (elsewhere, f"^{day}, {time}$"), ("2001-02-03T12:00:00Z", f"^{day}, {made.year}, {time}$")
    ):  # fmt: skip
        page.clock.set_fixed_time(clock)
        page.reload()
        expect(shown).to_have_text(re.compile(said))
        expect(shown).to_have_attribute("title", re.compile(rf"^{day}, {made.year}, .* GMT\+[12]$"))
        expect(page.locator("footer")).to_contain_text("times in Europe/Berlin (GMT+")
    with visit(browser, server, scripts=False) as reader:
        reader.log_in()
        reader.page.goto(page.url)
        expect(reader.page.locator(".timeline time").last).to_have_text(re.compile(r"^[0-9- ]*\d\d:\d\d:\d\d UTC$"))
        expect(reader.page.locator("footer")).to_contain_text("times in UTC")


def test_empty_lists_lead_on_as_far_as_the_persons_rights(browser: Browser, server: RunningServer):
    name = f"empty-{uuid.uuid4().hex[:6]}"
    project_id = server.send("POST", "/api/v1/projects", json_body={"name": name}).json()["id"]
    for role, steps in {
        "te_admin": {
            "releases": "Add one with its kubeconfig", "operations": "Install a chart", "charts": "helm package",
            "clusters": "Add one with its kubeconfig", "sources": "pilothouse source add",
        },
        "readonly": {
            "releases": "It takes cce:cluster:create", "operations": "It takes cce:release:create",
            "charts": "It takes cce:chart:upload", "clusters": "It takes cce:cluster:create",
            "sources": "It takes cce:source:create",
        },
    }.items():  # fmt: skip
        they = add_person(server, role, project_id=project_id)
        with visit(browser, server) as new:
            new.log_in(name=they.name, password=PASSWORD)
            for page, step in steps.items():
                new.page.goto(f"/console/p/{name}/{page}")
                expect(new.page.locator(".empty")).to_contain_text(step)
            new.page.goto(f"/console/p/{name}/releases/live")
            expect(new.page.locator(".empty")).to_contain_text(steps["releases"])


@pytest.mark.parametrize("path", ["account", "projects"])
def test_pages_of_no_project_have_the_menu_of_the_first(person: Visit, path: str):
    person.page.goto(f"/console/{path}")
    person.page.get_by_role("link", name="Clusters").click()
    expect(person.page).to_have_url(re.compile(f"{person.home}/clusters$"))


def test_a_cluster_gets_other_credentials_and_is_removed(person: Visit, kubeconfig: str):
    name, text, page = f"spare-{uuid.uuid4().hex[:6]}", kubeconfig, person.page
    page.goto(f"{person.home}/clusters/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Kubeconfig").fill(text)
    page.get_by_role("button", name="Add the cluster").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    place = page.url
    try:
        expect(page.locator("#totals")).to_contain_text(re.compile("It has none|[0-9]"), timeout=20_000)
        page.get_by_text("Replace the credentials").click()
        page.get_by_label("Kubeconfig").fill("no kubeconfig")
        page.get_by_role("button", name="Replace them").click()
        expect(page.locator("#kubeconfig").get_by_role("alert")).to_contain_text("must be a map")
        page.get_by_label("Kubeconfig").fill(text)
        page.get_by_role("button", name="Replace them").click()
        expect(page.get_by_role("status").filter(has_text="It answers")).to_be_visible()
    finally:  # other tests expect to find one cluster
        page.goto(place)
        person.remove("cluster", name, word="Remove", place="remove")
    expect(page.get_by_role("link", name="test", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=name)).to_have_count(0)


def test_how_many_rows_are_ticked_is_told_and_what_cannot_be_rolled_back_offers_the_way_back(
    person: Visit, namespace: str, install: Callable[[str], None]
):
    install("ticked")
    page = person.page
    page.goto(f"{person.home}/releases?namespace={namespace}")
    page.get_by_label("Choose ticked").check()
    expect(page.locator(".chosen")).to_contain_text("1 ticked:")
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Nothing to roll back")
    page.get_by_role("link", name="Back to the list").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Releases")

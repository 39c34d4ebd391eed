"""The console in a real browser, against the real server and cluster: each page and each write, as people use them."""

import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsers import WIDE, Visit, visit
from tests.support.chart_sources import Repository
from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.helm import kill_helm
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.users import PASSWORD, add_person
from tools.localcluster.cluster import RunningCluster


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand, install: Callable[[str], None]) -> OneRelease:
    """A release with two revisions."""
    made = OneRelease(server, namespace, "shop", helm_cli)
    install("shop")
    return made


def upgrade(release: OneRelease, charts: dict[str, str], text: str) -> None:
    answer = release.update(chart_id=charts["next"], values={"text": text})
    assert answer.status_code == 200, answer.text
    assert release.settled()["status"] == "DEPLOYED"


def test_a_browser_at_the_root_is_led_to_the_log_in_and_from_there_to_where_it_wanted(
    browser: Browser, server: RunningServer
):
    with visit(browser, server) as guest:
        guest.page.goto("/")
        expect(guest.page).to_have_url(re.compile("/console/$"))
        guest.page.goto(f"{guest.home}/operations?state=failed")
        guest.page.get_by_label("Name", exact=True).fill("admin")
        guest.page.get_by_label("Password").fill("not the password")
        guest.page.get_by_role("button", name="Log in").click()
        expect(guest.page.get_by_role("alert")).to_contain_text("The username or password is wrong.")
        expect(guest.page.get_by_label("Name", exact=True)).to_have_value("admin")
        guest.page.get_by_label("Password").fill(server.password)
        guest.page.get_by_role("button", name="Log in").click()
        expect(guest.page).to_have_url(re.compile(r"/operations\?state=failed$"))
        guest.page.get_by_role("button", name="Log out").click()
        expect(guest.page.get_by_role("heading", name="Log in")).to_be_visible()
        guest.page.go_back()
        guest.page.reload()
        expect(guest.page.get_by_role("heading", name="Log in")).to_be_visible()


def test_the_list_searches_as_one_types_filters_sorts_and_keeps_it_in_the_address(
    person: Visit, install: Callable[[str], None]
):
    part = uuid.uuid4().hex[:6]
    for name in (f"one-{part}", f"two-{part}"):
        install(name)
    page = person.page
    page.goto(f"{person.home}/releases")
    page.keyboard.press("/")
    page.keyboard.type(part)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(page).to_have_url(re.compile(f"[?&]q={part}"))
    page.keyboard.press("Home")
    page.keyboard.type("two-")
    expect(rows).to_have_count(1)
    page.reload()
    expect(rows).to_have_count(1)
    expect(page.get_by_role("searchbox")).to_have_value(f"two-{part}")
    page.goto(f"{person.home}/releases?q={part}&sort=-name")
    expect(rows.first).to_contain_text(f"two-{part}")
    page.get_by_role("link", name="Release", exact=True).click()
    expect(rows.first).to_contain_text(f"one-{part}")
    page.get_by_role("link", name=re.compile("^Deployed 2$")).click()
    expect(page).to_have_url(re.compile("status=deployed"))
    rows.first.get_by_role("link", name=f"one-{part}").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"one-{part}")


def test_lists_and_releases_can_be_read_without_scripts(browser: Browser, server: RunningServer, release: OneRelease):
    with visit(browser, server, scripts=False) as reader:
        reader.log_in()
        page = reader.page
        page.get_by_role("searchbox").fill("shop")
        page.get_by_label("Namespace").fill(release.namespace)
        page.get_by_role("button", name="Search").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("link", name="shop").click()
        for tab in ("Values", "Manifest", "History", "Overview"):
            page.get_by_role("link", name=tab).click()
            expect(page.get_by_role("heading", level=1)).to_contain_text("shop")


def test_what_is_for_browsers_without_scripts_never_shows_with_them(person: Visit):
    person.page.route(re.compile("console[.]js"), lambda route: route.abort())  # as before it has come
    person.page.goto(f"{person.home}/releases")
    expect(person.page.get_by_role("searchbox")).to_be_visible()
    expect(person.page.get_by_role("button", name="Search")).to_be_hidden()


def test_a_release_tells_who_changed_it_and_a_rollback_shows_first_what_it_changes(
    person: Visit, release: OneRelease, charts: dict[str, str]
):
    upgrade(release, charts, "a second text")
    page = person.page
    person.open_release(release.namespace, "shop")
    expect(page.locator(".lead")).to_contain_text("revision 2")
    expect(page.locator(".lead")).to_contain_text("by admin (upgrade)")
    expect(page.locator("main")).to_contain_text("Say a second text")
    page.get_by_role("link", name="Values").click()
    expect(page.locator("pre.code")).to_contain_text("text:")
    page.get_by_role("link", name="Manifest").click()
    expect(page.locator("pre.code")).to_contain_text("shop-config")
    page.get_by_role("link", name="History").click()
    page.get_by_role("button", name="Show").click()
    expect(page.locator("td.old")).to_contain_text("hello")
    expect(page.locator("td.new")).to_contain_text("a second text")
    page.go_back()
    page.get_by_role("link", name="roll back to it").click()
    expect(page.locator("td.new")).to_contain_text("hello")
    page.get_by_role("button", name="Roll back to revision 1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    assert release.statuses() == ["superseded", "superseded", "deployed"]
    page.go_back()
    expect(page.locator("h3")).to_contain_text("From revision 3")
    expect(page.locator("main")).to_contain_text("Their objects are the same.")


def test_what_was_uninstalled_with_its_history_is_brought_back(
    person: Visit, server: RunningServer, release: OneRelease
):
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{release.namespace}/releases/shop"
    kept = {"options": {"keep_history": True}}
    answer = server.send("DELETE", path, json_body=kept, headers={"Prefer": "wait=60"}, timeout=90)
    assert answer.json()["state"] == "succeeded", answer.text
    page = person.page
    person.open_release(release.namespace, "shop", "/history")
    page.get_by_role("link", name="bring it back", exact=True).click()
    page.get_by_role("button", name="Bring back revision 1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    assert release.statuses() == ["uninstalled", "deployed"]


def test_an_uninstall_that_keeps_the_history_is_planned_told_with_its_time_and_undone(
    person: Visit, release: OneRelease, charts: dict[str, str]
):
    upgrade(release, charts, "a second text")
    long_ago = "() => document.querySelector('.lead time').dateTime"
    page = person.page
    person.open_release(release.namespace, "shop")
    deployed = page.evaluate(long_ago)
    page.get_by_role("link", name="Uninstall").click()
    page.get_by_label("Keep the history").check()
    page.get_by_role("button", name="Plan it").click()
    expect(page.locator("main")).to_contain_text("All its objects are deleted, and its history stays.")
    expect(page.locator(".apply .facts")).to_contain_text("Keep the history")
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_label("Keep the history")).to_be_checked()
    page.get_by_label(re.compile("to confirm")).fill("shop")
    page.get_by_role("button", name="Uninstall", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    assert release.statuses() == ["superseded", "uninstalled"]
    page.get_by_role("link", name="To the release", exact=True).click()
    expect(page.locator(".lead")).to_contain_text("by admin (uninstall)")
    assert page.evaluate(long_ago) > deployed
    expect(page.get_by_role("link", name="Change", exact=True)).to_have_count(0)
    person.open_release(release.namespace, "shop", "/history")
    expect(page.locator("tbody tr").first).to_contain_text("admin uninstall")
    expect(page.locator("tbody tr").first).to_contain_text("written by admin (upgrade)")
    page.goto(f"{person.home}/releases?namespace={release.namespace}")
    expect(page.locator("tbody")).not_to_contain_text("deployed")
    assert page.evaluate("() => document.querySelector('tbody time').dateTime") > deployed
    page.get_by_role("link", name=re.compile("Uninstalled *1")).click()
    page.get_by_role("link", name="shop").click()
    page.get_by_role("link", name="Bring it back").click()
    expect(page.get_by_label("To revision")).to_have_value("2")
    expect(page.locator("h3")).to_have_text("Everything that revision 2 has is created again")
    expect(page.locator(".chips")).to_have_text(re.compile(r"^\s*Added1\s*$"))
    expect(page.get_by_text("did not go well")).to_have_count(0)
    page.get_by_label("To revision").select_option("1")
    expect(page.locator(".chips")).to_have_text(re.compile(r"^\s*Added1\s*$"))
    page.get_by_label("To revision").select_option("2")
    page.get_by_role("button", name="Plan bringing back revision 2").click()
    expect(page.locator(".chips")).to_have_text(re.compile(r"^\s*Added1\s*$"))
    page.get_by_role("button", name="Roll shop back to revision 2").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    assert release.statuses() == ["superseded", "uninstalled", "deployed"]
    person.open_release(release.namespace, "shop", "/rollback?to=2")
    expect(page.get_by_text("did not go well")).to_have_count(0)


def test_a_running_operation_moves_by_itself_and_is_cancelled(
    person: Visit, namespace: str, start_stuck: Callable[..., str], server: RunningServer
):
    operation_id = start_stuck("waits")
    page = person.page
    page.goto(f"{person.home}/operations/{operation_id}")
    expect(page.locator(".now")).to_contain_text("0 of 3 ready")
    expect(page.locator(".now")).to_contain_text("Unschedulable")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Running")
    page.evaluate("window.same = true")
    page.context.new_page().goto(f"{person.home}/releases?namespace={namespace}")
    other = page.context.pages[-1]
    expect(other.locator("tbody tr")).to_contain_text("Installing")
    queue = page.context.new_page()
    queue.goto(f"{person.home}/operations")
    expect(queue.locator("main")).to_contain_text(re.compile("[1-9][0-9]* workers? (is|are) alive"))
    expect(queue.locator("tbody tr", has_text=namespace).locator("td").last).to_contain_text("Unschedulable")
    tree = page.context.new_page()
    tree.goto(f"{person.home}/releases/test/{namespace}/waits/resources")
    expect(tree.locator(".tree")).to_contain_text("0 of 3 ready")
    expect(tree.locator(".tree li li li").first).to_contain_text("Unschedulable")
    asking = page.context.new_page()
    asking.goto(f"{person.home}/operations/{operation_id}")
    asking.get_by_role("link", name="Cancel").click()
    expect(asking.locator("main")).to_contain_text("is uninstalled, or kept")
    asking.get_by_role("button", name="Cancel the install").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelled", timeout=30_000)
    assert page.evaluate("window.same"), "it was not loaded again"
    expect(other.locator("tbody tr")).to_have_count(0)
    assert server.show(namespace, "waits").status_code == 404


def test_a_failure_says_why_on_the_first_screen_and_readers_in_the_history(
    person: Visit, browser: Browser, server: RunningServer, namespace: str, start_stuck: Callable[..., str]
):
    operation_id = start_stuck("fails", seconds=6)
    page = person.page
    page.goto(f"{person.home}/operations/{operation_id}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Failed", timeout=40_000)
    why = page.locator(".card.bad")
    expect(why).to_contain_text("Unschedulable")
    box = why.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < WIDE[1]
    expect(page.locator(".blocking").first).to_contain_text("Deployment fails-web")
    evidence, place = page.locator(".evidence").last, f"{page.url}#evidence-1"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    evidence.get_by_role("button", name="Copy the link").click()
    expect(evidence.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == place
    evidence.get_by_role("link", name="Link to this").click()
    expect(page).to_have_url(place)
    page.get_by_role("link", name="To the release").click()
    expect(page.locator(".card.bad")).to_contain_text("The last operation failed")
    reader = add_person(server, "readonly")
    with visit(browser, server) as they:
        they.log_in(name=reader.name, password=PASSWORD)
        they.open_release(namespace, "fails", "/history")
        expect(they.page.locator("tbody")).to_contain_text("Deployment")
        expect(they.page.locator("tbody")).not_to_contain_text("withheld")


def test_an_uninstall_takes_the_name_and_shows_what_the_service_refuses(person: Visit, release: OneRelease):
    page = person.page
    person.open_release(release.namespace, "shop")
    page.get_by_role("link", name="Uninstall").click()
    page.get_by_label(re.compile("to confirm")).fill("shp")
    page.get_by_role("button", name="Uninstall").click()
    expect(page.get_by_role("alert")).to_contain_text("type the release's name, shop")
    expect(page.get_by_label(re.compile("to confirm"))).to_have_value("shp")
    page.get_by_label(re.compile("to confirm")).fill("shop")
    page.get_by_role("button", name="Uninstall").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    release.gone()
    for _ in range(2):
        expect(page.locator("main")).to_contain_text("Nothing of the release is left, nor its history.")
        expect(page.locator("main").get_by_role("link", name="To the release", exact=True)).to_have_count(0)
        expect(page.locator("nav.crumbs").get_by_role("link", name="shop")).to_have_count(0)
        page.reload()
    page.locator("main").get_by_role("link", name="To the releases").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Releases")


def test_rows_of_tabs_scroll_in_no_direction_that_has_nothing(person: Visit, release: OneRelease):
    page, shop = person.page, f"releases/test/{release.namespace}/shop"
    for path in (shop, f"{shop}/rollback", "charts", "access"):
        page.goto(f"{person.home}/{path}")
        for row in (page.locator(".subtabs"), page.locator("nav.tabs")):
            assert row.evaluate("one => one.scrollHeight - one.clientHeight") == 0, path


def test_a_lock_of_another_program_is_named_and_lifted(
    person: Visit, release: OneRelease, kubernetes: RunningCluster, tmp_path: Path
):
    chart = tmp_path / "stalls.tgz"
    stall = "    metadata: {annotations: {pilothouse.dev/simulate: never-ready}}\n    spec:\n      restartPolicy"
    hook = hook_job_template("pre-upgrade").replace("    spec:\n      restartPolicy", stall)
    chart.write_bytes(build_chart("seen", templates={"h.yaml": hook}))
    place = {"name": "shop", "namespace": release.namespace, "leaves": "pending-upgrade"}
    kill_helm(kubernetes, release.helm, "upgrade", "shop", str(chart), **place, home=tmp_path)
    page = person.page

    def told() -> bool:
        person.open_release(release.namespace, "shop")
        return page.get_by_text("Locked by another program.").is_visible()

    wait_for(told)
    expect(page.locator(".icon-loader")).to_have_count(0)
    expect(page.locator(".notice.bad")).to_contain_text(re.compile(r"has been upgrading for [0-9]+ "))
    page.goto(f"{person.home}/releases?namespace={release.namespace}&locked=yes")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("Locked")
    expect(page.locator(".state .icon-lock")).to_have_count(1)
    expect(page.locator(".icon-loader")).to_have_count(1)  # of the chip, where it does not turn
    expect(page.locator(".chip .icon-loader")).to_have_css("animation-name", "none")
    person.open_release(release.namespace, "shop")
    page.get_by_role("link", name="Unlock").click()
    page.get_by_label(re.compile("known to be dead")).fill("its node is gone")
    page.get_by_role("button", name="Unlock").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Failed")
    expect(page.locator("main")).to_contain_text("its node is gone")
    page.go_back()
    expect(page.locator("main")).to_contain_text("there is nothing to unlock")
    assert release.statuses() == ["deployed", "failed"]


def test_who_may_only_look_is_shown_no_write_and_told_which_right_is_missing(
    browser: Browser, server: RunningServer, release: OneRelease
):
    viewer = add_person(server, "readonly", project_id=server.project_id)
    with visit(browser, server) as looking:
        looking.log_in(name=viewer.name, password=PASSWORD)
        looking.open_release(release.namespace, "shop")
        page = looking.page
        for name in ("Roll back", "Uninstall", "Unlock"):
            expect(page.get_by_role("link", name=name)).to_have_count(0)
        expect(page.locator(".head .hint")).to_contain_text("cce:release:update")
        page.get_by_role("link", name="Values").click()
        expect(page.locator("main")).to_contain_text("pilothouse:values:read")
        answer = page.goto(f"{looking.home}/releases/test/{release.namespace}/shop/uninstall")
        assert answer is not None
        assert answer.status == 403
        expect(page.get_by_role("alert")).to_contain_text("lacks the permission cce:release:delete")


HOSTILE = ["<script>alert(1)</script>", "<img src=//evil.example/x onerror=alert(2)>", "\u202etxet", "x" * 2**20]


@pytest.mark.parametrize("text", HOSTILE, ids=["script", "image", "right to left", "long"])
def test_texts_of_charts_are_texts(person: Visit, server: RunningServer, namespace: str, text: str):
    chart = build_chart(
        "hostile", f"1.0.{uuid.uuid4().int % 10**9}",
        templates={"config.yaml": config_map_template(), "NOTES.txt": "note: {{ .Values.text }}"},
        values={"text": "x", "</code><script>alert(3)</script>": text[:100]},
    )  # fmt: skip
    chart_id = server.upload(chart).json()["id"]
    server.create(chart_id=chart_id, namespace=namespace, name="hostile", values={"text": text})
    assert server.wait_until_final(namespace, "hostile")["status"] == "DEPLOYED"
    page = person.page
    for part, place in (("", "pre.text"), ("/values?layer=computed", "pre.code"), ("/manifest", "pre.code")):
        person.open_release(namespace, "hostile", part)
        shown = page.locator(place).text_content() or ""
        assert text[:1000] in shown.replace("\\u202E", "\u202e").replace("\\u202e", "\u202e")
        assert person.overflow() <= 0
        assert page.locator("main script, main img").count() == 0


def test_a_chart_is_uploaded_and_what_is_wrong_with_one_is_told(person: Visit):
    page = person.page
    page.goto(f"{person.home}/charts")
    chart = build_chart(
        f"up-{uuid.uuid4().hex[:6]}", "0.2.0", templates={"c.yaml": config_map_template()}, values={"text": "x"}
    )
    for archive, told in ((b"no archive", "Not uploaded"), (chart, "text: x"), (chart, "already exists")):
        page.goto(f"{person.home}/charts")
        page.get_by_label("Upload a chart").set_input_files(
            {"name": "chart.tgz", "mimeType": "application/gzip", "buffer": archive}
        )
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.locator("main")).to_contain_text(told)


def test_a_cluster_is_asked_and_one_that_is_refused_is_told_with_what_was_typed(person: Visit):
    page = person.page
    page.goto(f"{person.home}/clusters")
    page.get_by_role("link", name="test", exact=True).click()
    page.get_by_role("link", name="Check the connection now").click()
    expect(page.get_by_role("status").filter(has_text="It answers")).to_be_visible()
    page.goto(f"{person.home}/clusters/new")
    page.get_by_label("Name", exact=True).fill("another")
    page.get_by_label("Kubeconfig").fill("clusters: <script>alert(1)</script>")
    page.get_by_role("button", name="Add the cluster").click()
    expect(page.locator("#fault-kubeconfig")).to_contain_text("contexts: missing or empty")
    expect(page.get_by_label("Kubeconfig")).to_have_value("clusters: <script>alert(1)</script>")


def test_what_was_sent_when_the_session_had_ended_is_sent_after_the_log_in(
    person: Visit, browser: Browser, server: RunningServer, release: OneRelease
):
    page = person.page
    person.open_release(release.namespace, "shop", "/uninstall")
    page.get_by_label(re.compile("to confirm")).fill("shop")
    with visit(browser, server) as elsewhere:
        elsewhere.log_in()
        elsewhere.page.goto("/console/account")
        elsewhere.page.get_by_role("button", name="Log out everywhere").click()
        expect(elsewhere.page.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_role("button", name="Uninstall").click()
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended")
    assert release.settled()["status"] == "DEPLOYED"
    page.get_by_label("Name", exact=True).fill("admin")
    page.get_by_label("Password").fill(server.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("main")).to_contain_text("was not carried out")
    page.get_by_role("button", name="Send it now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")


def test_every_page_is_free_of_barriers_and_fits_a_phone(  # noqa: PLR0917 (fixtures)
    browser: Browser, server: RunningServer, release: OneRelease, charts: dict[str, str],
    start_stuck: Callable[..., str], source: tuple[str, Repository],
):  # fmt: skip
    upgrade(release, charts, "a second text")
    running, failed = start_stuck("waits"), start_stuck("fails", seconds=4)
    with visit(browser, server) as person:
        person.page.goto("/console/")
        person.inspect("login")
        person.log_in()
        listed = pages(person, release, charts, running, failed) | source_pages(person.home, source[0])
        for name, path in listed.items():
            person.page.goto(path)
            person.inspect(name)
    server.send("POST", f"/api/v1/operations/{running}/cancel", json_body={})


def pages(person: Visit, release: OneRelease, charts: dict[str, str], running: str, failed: str) -> dict[str, str]:
    """The address of every page by the name of its picture."""
    home, me = person.home, person.server.send("GET", "/api/v1/users/me").json()["id"]
    path = f"/api/v1/clusters/{person.server.cluster_id}/namespaces/{release.namespace}/releases/waits/resources"
    [stuck] = person.server.send("GET", path).json()["objects"]
    pod = stuck["children"][0]["children"][0]["name"]
    shop = f"{home}/releases/test/{release.namespace}/shop"
    return {
        "releases": f"{home}/releases?namespace={release.namespace}",
        "releases-none": f"{home}/releases?q=nothing-has-this-name",
        "releases-refused": f"{home}/releases?status=deployd-x",
        "release": shop,
        "resources": f"{shop}/resources",
        "resources-waiting": f"{home}/releases/test/{release.namespace}/waits/resources",
        "values": f"{shop}/values?layer=computed",
        "manifest": f"{shop}/manifest",
        "history": f"{shop}/history",
        "diff": f"{shop}/diff?from=1&to=2",
        "rollback": f"{shop}/rollback?to=1",
        "uninstall": f"{shop}/uninstall",
        "unlock": f"{shop}/unlock",
        "operations": f"{home}/operations?release=shop",
        "operation-running": f"{home}/operations/{running}",
        "operation-failed": f"{home}/operations/{failed}",
        "operation-cancel": f"{home}/operations/{running}/cancel",
        "charts": f"{home}/charts",
        "verification": f"{home}/verification",
        "chart": f"{home}/charts/{charts['next']}",
        "clusters": f"{home}/clusters",
        "cluster": f"{home}/clusters/test?probe=1",
        "cluster-new": f"{home}/clusters/new",
        "audit": f"{home}/audit?target={person.server.cluster_id}/{release.namespace}/shop&reads=yes",
        "access": f"{home}/access",
        "user": f"{home}/access/users/{me}",
        "groups": f"{home}/access/groups",
        "policies": f"{home}/access/policies",
        "policy": f"{home}/access/policies/{_policy(person.server)}",
        "pod": f"{home}/releases/test/{release.namespace}/waits/pod?pod={pod}",
        "bulk-uninstall": f"{home}/releases/bulk?do=uninstall&release=test/{release.namespace}/shop",
        "bulk-rollback": "&release=".join(
            [f"{home}/releases/bulk?do=rollback", *(f"test/{release.namespace}/{name}" for name in ("shop", "fails"))]
        ),
        "drift": f"{shop}/diff?to=live",
        "bulk-ordered": f"{home}/releases/bulk/ordered?do=rollback&order={running}&order={failed}",
        "bulk-drift": f"{home}/releases/bulk/drift?release=test/{release.namespace}/shop&release=test/none/none",
        "releases-unlooked": f"{home}/releases?namespace={release.namespace}&unlooked=yes",
        "releases-drifted": f"{home}/releases?namespace={release.namespace}&drifted=yes",
        "account": "/console/account",
        "projects": "/console/projects",
        "missing": f"{home}/there-is-no-such-page",
    }


def _policy(server: RunningServer) -> str:
    statement = {"Effect": "Allow", "Action": ["cce:release:get", "cce:release:list"], "Resource": ["*"]}
    body = {"name": f"seen-{uuid.uuid4().hex[:8]}", "document": {"Version": "5.0", "Statement": [statement]}}
    return str(server.send("POST", "/api/v1/policies", json_body=body).json()["id"])


def source_pages(home: str, source: str) -> dict[str, str]:
    return {
        "sources": f"{home}/sources",
        "sources-found": f"{home}/sources?q=webapp",
        "source": f"{home}/sources/{source}",
        "source-chart": f"{home}/sources/{source}/charts/webapp",
        "source-version": f"{home}/sources/{source}/charts/webapp/1.1.0",
    }

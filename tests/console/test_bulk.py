"""Several releases at once: chosen in the list, named on one page, ordered each by itself."""

import re
import uuid
from collections.abc import Callable

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType
from playwright.sync_api import Browser, Page, expect

from tests.support.browsers import Visit, visit
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.users import PASSWORD, add_person
from tools.localcluster.cluster import RunningCluster


@pytest.fixture
def pair(install: Callable[[str], None]) -> tuple[str, str]:
    """Two releases of one revision."""
    part = uuid.uuid4().hex[:6]
    names = f"a-{part}", f"b-{part}"
    for name in names:
        install(name)
    return names


def choose(person: Visit, namespace: str, *names: str) -> Page:
    person.page.goto(f"{person.home}/releases?namespace={namespace}")
    for name in names:
        person.page.get_by_label(f"Choose {name}").check()
    return person.page


def test_several_are_uninstalled_after_one_page_has_named_all(
    person: Visit, server: RunningServer, namespace: str, pair: tuple[str, str]
):
    page = choose(person, namespace, *pair)
    page.get_by_role("button", name="Uninstall").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Uninstall 2 releases")
    for name in pair:
        expect(page.locator("tbody")).to_contain_text(name)
    page.get_by_label(re.compile("to confirm")).fill("uninstall 3")
    page.get_by_role("button", name="Uninstall 2").click()
    expect(page.get_by_role("alert")).to_contain_text("type 'uninstall 2'")
    expect(page.get_by_label(re.compile("to confirm"))).to_have_value("uninstall 3")
    page.get_by_label(re.compile("to confirm")).fill("uninstall 2")
    page.get_by_role("button", name="Uninstall 2").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 of 2 ordered")
    expect(page.locator("#list .state", has_text="Succeeded")).to_have_count(2, timeout=20_000)
    expect(page.locator("#poll")).to_have_count(0)
    page.get_by_role("link", name=pair[0]).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    page.goto(f"{person.home}/releases?namespace={namespace}")
    expect(page.locator("main")).to_contain_text("No release matches.", timeout=20_000)
    assert {server.show(namespace, name).status_code for name in pair} == {404}


def test_several_are_uninstalled_with_their_histories_kept(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, pair: tuple[str, str]
):
    both = [OneRelease(server, namespace, name, helm_cli) for name in pair]
    page = choose(person, namespace, *pair)
    page.get_by_role("button", name="Uninstall").click()
    page.get_by_label("Keep the history").check()
    page.get_by_label(re.compile("to confirm")).fill("uninstall")
    page.get_by_role("button", name="Uninstall 2").click()
    expect(page.get_by_role("alert")).to_contain_text("type 'uninstall 2'")
    expect(page.get_by_label("Keep the history")).to_be_checked()
    page.get_by_label(re.compile("to confirm")).fill("uninstall 2")
    page.get_by_role("button", name="Uninstall 2").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 of 2 ordered")
    wait_for(lambda: all(one.statuses() == ["uninstalled"] for one in both))
    page = choose(person, namespace, *pair)
    page.get_by_role("button", name="Uninstall").click()
    expect(page.locator("tbody")).to_contain_text("its history, all that is left of it, is deleted")
    expect(page.get_by_label("Keep the history")).to_have_count(0)


def test_several_are_rolled_back_and_one_that_cannot_be_is_left_alone(  # noqa: PLR0917 (fixtures)
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, charts: dict[str, str],
    pair: tuple[str, str],
):  # fmt: skip
    one = OneRelease(server, namespace, pair[0], helm_cli)
    assert one.update(chart_id=charts["next"], values={"text": "second"}).status_code == 200
    one.settled()
    page = choose(person, namespace, *pair)
    page.get_by_role("button", name="Roll back").click()
    expect(page.locator("tbody")).to_contain_text("from revision 2 to what revision 1 has")
    expect(page.locator(".blocking")).to_contain_text(pair[1])
    expect(page.locator(".blocking")).to_contain_text("no earlier revision that went well")
    page.get_by_role("button", name="Roll back 1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("1 of 1 ordered")
    link = page.get_by_role("link", name=pair[0]).get_attribute("href")
    page.reload()
    assert page.get_by_role("link", name=pair[0]).get_attribute("href") == link, "it was ordered once"
    one.settled()
    assert one.statuses() == ["superseded", "superseded", "deployed"]
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/{pair[0]}"
    kept = {"options": {"keep_history": True}}
    answer = server.send("DELETE", path, json_body=kept, headers={"Prefer": "wait=60"}, timeout=90)
    assert answer.json()["state"] == "succeeded", answer.text
    page.goto(f"{person.home}/releases/bulk?do=rollback&release=test/{namespace}/{pair[0]}")
    expect(page.locator(".blocking")).to_contain_text("it is uninstalled; bring it back on its own page")


def test_a_release_that_has_moved_since_it_was_shown_is_not_rolled_back(  # noqa: PLR0917 (fixtures)
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, charts: dict[str, str],
    pair: tuple[str, str],
):  # fmt: skip
    one = OneRelease(server, namespace, pair[0], helm_cli)
    for text in ("second", "third"):
        if text == "third":
            page = choose(person, namespace, pair[0])
            page.get_by_role("button", name="Roll back").click()
        assert one.update(chart_id=charts["next"], values={"text": text}).status_code == 200
        one.settled()
    page.get_by_role("button", name="Roll back 1").click()
    expect(page.locator("tr.bad")).to_contain_text("it is at revision 3 now")
    assert len(one.history()) == 3


def test_a_release_that_has_moved_since_it_was_shown_is_not_uninstalled(  # noqa: PLR0917 (fixtures)
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, charts: dict[str, str],
    install: Callable[[str], None], pair: tuple[str, str],
):  # fmt: skip
    upgraded, anew = (OneRelease(server, namespace, name, helm_cli) for name in pair)
    page = choose(person, namespace, *pair)
    page.get_by_role("button", name="Uninstall").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Uninstall 2 releases")
    assert upgraded.update(chart_id=charts["next"], values={"text": "second"}).status_code == 200
    upgraded.settled()
    assert anew.delete().is_success
    anew.gone()
    install(pair[1])
    page.get_by_label(re.compile("to confirm")).fill("uninstall 2")
    page.get_by_role("button", name="Uninstall 2").click()
    expect(page.locator("tr.bad")).to_have_count(2)
    expect(page.locator("tr.bad", has_text=pair[0])).to_contain_text("it is at revision 2 now; look at it again")
    expect(page.locator("tr.bad", has_text=pair[1])).to_contain_text("it was installed anew since it was shown")
    assert (upgraded.statuses(), anew.statuses()) == (["superseded", "deployed"], ["deployed"])


def test_a_release_that_is_being_changed_is_not_uninstalled(
    person: Visit, server: RunningServer, namespace: str, start_stuck: Callable[..., str]
):
    operation_id = start_stuck("busy")
    person.page.goto(f"{person.home}/account")
    path = f"/api/v1/operations/{operation_id}"
    wait_for(lambda: server.send("GET", path).json()["state"] == "running")
    fields: dict[str, str | float | bool] = {
        "csrf": person.page.locator("input[name=csrf]").first.input_value(),
        "do": "uninstall",
        "releases": f"test/{namespace}/busy@1",
        "confirm": "uninstall 1",
    }
    answer = person.page.request.post(
        f"{person.home}/releases/bulk", form=fields, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert f"the installation of release &#39;busy&#39; is running (operation {operation_id})" in answer.text()
    assert server.send("GET", path).json()["state"] == "running"
    server.send("POST", f"{path}/cancel", json_body={})


def test_what_is_ticked_stays_ticked_when_the_list_moves(
    person: Visit, namespace: str, start_stuck: Callable[..., str], pair: tuple[str, str], server: RunningServer
):
    operation_id = start_stuck("waits")
    page = choose(person, namespace, pair[0])
    expect(page.locator("#poll-fast")).to_have_count(1)
    with page.expect_response(re.compile("/releases/live")):
        pass
    with page.expect_response(re.compile("/releases/live")):  # what the one before has brought is shown by now
        pass
    expect(page.get_by_label(f"Choose {pair[0]}")).to_be_checked()
    expect(page.get_by_label(f"Choose {pair[1]}")).not_to_be_checked()
    server.send("POST", f"/api/v1/operations/{operation_id}/cancel", json_body={})


def test_who_may_only_look_may_only_look_for_drift(
    browser: Browser, server: RunningServer, namespace: str, pair: tuple[str, str]
):
    viewer = add_person(server, "readonly", project_id=server.project_id)
    with visit(browser, server) as they:
        they.log_in(name=viewer.name, password=PASSWORD)
        they.page.goto(f"{they.home}/releases?namespace={namespace}")
        expect(they.page.locator("tbody tr")).to_have_count(2)
        they.page.get_by_label(f"Choose {pair[0]}").check()
        expect(they.page.locator(".chosen button")).to_have_count(1)
        they.page.get_by_role("button", name="Look for drift").click()
        expect(they.page.get_by_role("heading", level=1)).to_contain_text("0 of 1 have drifted")
        for query in ("do=uninstall", "do=rollback", "do=x", ""):
            answer = they.page.goto(f"{they.home}/releases/bulk?{query}&release=test/{namespace}/{pair[0]}")
            assert answer is not None
            assert answer.status in {400, 403}, query


def test_drift_is_looked_for_at_all_that_nobody_has_looked_at(
    person: Visit, server: RunningServer, namespace: str, kubernetes: RunningCluster, pair: tuple[str, str]
):
    page = person.page
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    try:
        client.patch(
            ConfigMap, f"{pair[1]}-config", {"data": {"text": "edited"}}, namespace=namespace,
            patch_type=PatchType.MERGE, field_manager="kubectl-edit",
        )  # fmt: skip
    finally:
        client.close()
    page.goto(f"{person.home}/releases?namespace={namespace}")
    page.get_by_label("Drifted").check()
    expect(page.locator(".empty")).to_contain_text("No release is known to have drifted.")
    expect(page.get_by_role("link", name="Show them")).to_be_visible()
    page.get_by_role("link", name="Show the 2 that were not looked at").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    person.inspect("unlooked")
    page.get_by_role("button", name="Look for drift at the 2 listed").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("1 of 2 has drifted")
    rows = page.locator("tbody tr")
    expect(rows.nth(0)).to_contain_text(pair[1])
    expect(rows.nth(0)).to_contain_text(re.compile(r"^(?!.*removed).*1 changed", re.DOTALL))
    expect(rows.nth(1)).to_contain_text("No drift")
    person.inspect("drifts")
    rows.nth(0).get_by_role("link", name="what differs").click()
    expect(page.locator("main")).to_contain_text("edited")
    page.go_back()
    page.get_by_role("link", name="All that have drifted").click()
    expect(page.locator("tbody")).to_contain_text(pair[1])
    page.goto(f"{person.home}/releases?namespace={namespace}&unlooked=yes")
    expect(page.locator(".empty")).to_contain_text("No release matches.")
    listed = server.send("GET", f"/api/v1/releases?namespace={namespace}&drifted=true").json()
    assert [one["name"] for one in listed] == [pair[1]]


def test_what_cannot_be_looked_at_says_why_and_the_others_are_looked_at(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, pair: tuple[str, str]
):
    kept, wanted = OneRelease(server, namespace, pair[0], helm_cli), {"options": {"keep_history": True}}
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/{pair[0]}"
    answer = server.send("DELETE", path, json_body=wanted, headers={"Prefer": "wait=60"}, timeout=90)
    assert answer.json()["state"] == "succeeded", answer.text
    assert kept.statuses() == ["uninstalled"]
    page = choose(person, namespace, *pair)
    page.get_by_role("button", name="Look for drift").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("0 of 2 have drifted")
    expect(page.locator("tr.bad")).to_contain_text(f"{pair[0]}")
    expect(page.locator("tr.bad")).to_contain_text("it is uninstalled: there is nothing to compare")
    expect(page.locator("tr.ok")).to_contain_text(pair[1])
    page.goto(f"{page.url}&release=test/{namespace}/never&release=nowhere/{namespace}/none")
    expect(page.locator("tr.bad")).to_have_count(3)
    expect(page.locator("tr.bad", has_text="never")).to_contain_text("release 'never' does not exist")
    expect(page.locator("tr.bad", has_text="nowhere")).to_contain_text("does not exist")


def test_who_is_limited_to_a_namespace_looks_for_drift_there_only(
    browser: Browser, server: RunningServer, namespace: str, pair: tuple[str, str]
):
    limited = add_person(server)
    allowed = {
        "Effect": "Allow", "Action": ["cce:release:get", "cce:release:list"], "Resource": ["*"],
        "Condition": {"StringEquals": {"pilothouse:Namespace": [namespace], "cce:ClusterId": [server.cluster_id]}},
    }  # fmt: skip
    body = {"name": f"p-{uuid.uuid4().hex[:8]}", "document": {"Version": "5.0", "Statement": [allowed]}}
    policy_id = server.send("POST", "/api/v1/policies", json_body=body).json()["id"]
    attached = {"user_id": limited.id, "project_id": server.project_id}
    answer = server.send("POST", f"/api/v1/policies/{policy_id}/attachments", json_body=attached)
    assert answer.status_code == 200, answer.text
    with visit(browser, server) as they:
        they.log_in(name=limited.name, password=PASSWORD)
        page = choose(they, namespace, pair[0])
        page.get_by_role("button", name="Look for drift").click()
        expect(page.locator("tr.ok")).to_contain_text(pair[0])
        page.goto(f"{page.url}&release=test/elsewhere/{pair[1]}")
        expect(page.locator("tr.ok")).to_contain_text(pair[0])
        expect(page.locator("tr.bad")).to_contain_text("cce:release:get")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "none is chosen"),
        ("release=x", "is not a release"),
        ("release=a/b/c%00", "contains a NUL character"),
        ("&".join(f"release=test/n/r{number}" for number in range(51)), "at most 50"),
    ],
)
def test_a_wrong_choice_of_what_to_look_at_is_said(person: Visit, query: str, said: str):
    person.page.goto(f"{person.home}/releases/bulk/drift?{query}")
    expect(person.page.locator("main")).to_contain_text(said)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("do=uninstall", "none is chosen"),
        ("do=uninstall&release=x", "is not a release"),
        ("do=uninstall&release=a/b/c%00", "contains a NUL character"),
        ("do=uninstall&" + "&".join(f"release=test/n/r{number}" for number in range(26)), "at most 25"),
        ("do=uninstall&release=test/n/none&release=nowhere/n/none", "does not exist"),
    ],
)
def test_what_cannot_be_done_is_said(person: Visit, query: str, said: str):
    person.page.goto(f"{person.home}/releases/bulk?{query}")
    expect(person.page.locator("main")).to_contain_text(said)


def test_a_list_is_walked_by_keys(person: Visit, namespace: str, pair: tuple[str, str]):
    page = person.page
    page.goto(f"{person.home}/releases?namespace={namespace}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name=pair[0])).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name=pair[1])).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(pair[0])


@pytest.mark.parametrize("waits", [True, False])
def test_the_first_arrow_after_a_search_reaches_a_row_and_stays_there(
    person: Visit, namespace: str, pair: tuple[str, str], *, waits: bool
):
    page, part = person.page, pair[0].removeprefix("a-")
    page.goto(f"{person.home}/releases?namespace={namespace}")
    page.keyboard.press("/")
    with page.expect_response(re.compile(f"q=a-{part}")):
        page.keyboard.type(f"a-{part}")
        if not waits:
            page.keyboard.press("ArrowDown")
    expect(page.locator("tbody tr")).to_have_count(1)
    if waits:
        page.keyboard.press("ArrowDown")
    page.wait_for_timeout(500)  # what leaving the field has set off is shown by now
    expect(page.get_by_role("link", name=pair[0])).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(pair[0])

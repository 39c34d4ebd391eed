"""What the console says of releases whose newest revision failed: plans over them, and where a rollback can lead."""

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsers import Visit, visit
from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.workloads import deployment_template

BRIEF = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "2"}


@pytest.fixture(scope="module")
def half(server: RunningServer) -> dict[str, str]:
    """The ids of a chart in two versions, of which the second never gets ready."""
    made = {}
    stuck = {"web.yaml": deployment_template(selector="{nowhere: 'yes'}")}
    for version, more in (("1.0.0", {}), ("1.1.0", stuck)):
        chart = build_chart(
            "half", version, templates={"config.yaml": config_map_template(), **more}, values={"text": f"of {version}"}
        )
        answer = server.upload(chart, parameters='{"override": true}')
        assert answer.status_code == 201, answer.text
        made[version] = str(answer.json()["id"])
    return made


@pytest.fixture
def failed(server: RunningServer, namespace: str, helm_cli: HelmCommand, half: dict[str, str]) -> OneRelease:
    """A release whose second revision failed."""
    made = OneRelease(server, namespace, "shop", helm_cli)
    assert made.create(half["1.0.0"], values={}).status_code == 201
    assert made.settled()["status"] == "DEPLOYED"
    assert made.update(chart_id=half["1.1.0"], values={}, headers=BRIEF).status_code == 200
    assert made.settled()["status"] == "FAILED"
    return made


def test_a_plan_over_a_failed_revision_says_what_it_is_compared_with_and_what_differs_in_the_cluster(
    person: Visit, failed: OneRelease
):
    page = person.page
    person.open_release(failed.namespace, "shop", "/rollback")
    expect(page.get_by_label("To revision")).to_have_value("1")
    expect(page.get_by_label("To revision")).to_contain_text("1: half 1.0.0")
    page.get_by_role("button", name="Plan going back to revision 1").click()
    expect(page.locator("main .notice")).to_contain_text(
        "Revision 2 failed; compared with revision 1, the last that was"
    )
    expect(page.locator(".chips:not(.live)")).to_have_text(re.compile(r"^\s*Unchanged1\s*$"))
    expect(page.locator("main")).to_contain_text("Against what the cluster has now, 1 field differs")
    expect(page.locator(".chips.live")).to_contain_text("Changed1")
    expect(page.locator("main")).to_contain_text("The values are those of revision 1.")
    expect(page.locator(".apply .facts").first).to_contain_text("Time limit")


def test_a_rollback_warns_of_a_revision_that_failed_and_offers_none_where_there_is_none(
    person: Visit, server: RunningServer, failed: OneRelease, half: dict[str, str], helm_cli: HelmCommand
):
    page = person.page
    assert failed.update(chart_id=half["1.0.0"], values={"text": "third"}).status_code == 200
    assert failed.settled()["status"] == "DEPLOYED"
    person.open_release(failed.namespace, "shop", "/rollback")
    expect(page.get_by_label("To revision")).to_have_value("1")
    expect(page.get_by_text("did not go well")).to_have_count(0)
    page.get_by_label("To revision").select_option("2")
    expect(page.locator(".notice.bad")).to_contain_text("Revision 2 did not go well: it is failed.")
    first = OneRelease(server, failed.namespace, "first", helm_cli)
    answer = server.send(
        "POST", f"/cce/cam/v3/clusters/{server.cluster_id}/releases", headers=BRIEF,
        json_body={"chart_id": half["1.1.0"], "namespace": first.namespace, "name": "first", "values": {}},
    )  # fmt: skip
    assert answer.status_code == 201, answer.text
    assert first.settled()["status"] == "FAILED"
    person.open_release(first.namespace, "first", "/rollback")
    expect(page.locator("main")).to_contain_text("There is nothing to go back to.")
    expect(page.get_by_role("button", name="Roll back")).to_have_count(0)


@pytest.fixture
def third(server: RunningServer, namespace: str, helm_cli: HelmCommand, half: dict[str, str]) -> OneRelease:
    """A release of three revisions that differ in a text."""
    made = OneRelease(server, namespace, "shop", helm_cli)
    assert made.create(half["1.0.0"], values={"text": "first"}).status_code == 201
    assert made.settled()["status"] == "DEPLOYED"
    for said in ("second", "third"):
        assert made.update(chart_id=half["1.0.0"], values={"text": said}).status_code == 200
        assert made.settled()["status"] == "DEPLOYED"
    return made


def test_the_revision_that_is_chosen_is_previewed_planned_and_rolled_back_to(person: Visit, third: OneRelease):
    page = person.page
    person.open_release(third.namespace, "shop", "/rollback")
    expect(page.get_by_role("button", name="Roll back to revision 2")).to_be_visible()
    expect(page.locator("td.new")).to_contain_text("second")
    page.get_by_label("Run the chart's rollback hooks").check()
    page.get_by_label("To revision").select_option("1")
    expect(page.locator("td.new")).to_contain_text("first")
    expect(page.locator("h3")).to_have_text("From revision 3 to what revision 1 has")
    expect(page.get_by_role("button", name="revision 2")).to_have_count(0)
    expect(page.get_by_label("Run the chart's rollback hooks")).to_be_checked()
    expect(page).to_have_url(re.compile(r"/rollback\?to=1$"))
    page.reload()
    expect(page.get_by_label("To revision")).to_have_value("1")
    page.get_by_role("button", name="Plan going back to revision 1").click()
    expect(page.get_by_role("button", name="Roll shop back to revision 1")).to_be_visible()
    page.get_by_role("link", name="Back").click()
    page.get_by_role("button", name="Roll back to revision 1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    assert third.history()[-1]["description"] == "Rollback to 1"


def test_without_scripts_the_list_counts_and_nothing_is_rolled_back_to_that_was_not_shown(
    browser: Browser, server: RunningServer, third: OneRelease
):
    with visit(browser, server, scripts=False) as reader:
        page = reader.page
        reader.log_in()
        reader.open_release(third.namespace, "shop", "/rollback")
        page.get_by_label("To revision").select_option("1")
        page.get_by_role("button", name="Plan going back to the chosen revision").click()
        expect(page.get_by_role("button", name="Roll shop back to revision 1")).to_be_visible()
        reader.open_release(third.namespace, "shop", "/rollback")
        page.get_by_label("To revision").select_option("1")
        page.get_by_role("button", name="Show what would change").click()
        expect(page.locator("td.new")).to_contain_text("first")
        page.get_by_label("To revision").select_option("2")
        page.get_by_role("button", name="Roll back to the chosen revision").click()
        expect(page.get_by_role("alert")).to_contain_text("revision 2 was chosen, and what was shown is revision 1")
        expect(page.get_by_label("To revision")).to_have_value("2")
        expect(page.locator("td.new")).to_contain_text("second")
        assert len(third.history()) == 3
        page.get_by_role("button", name="Roll back to the chosen revision").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Roll back shop")
        assert third.settled()["status"] == "DEPLOYED"
        assert third.history()[-1]["description"] == "Rollback to 2"


def test_what_a_failed_install_never_created_is_no_drift(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand
):
    wrong = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: wrong}\ndata: {text: [1]}\n"
    chart = build_chart("never", templates={"wrong.yaml": wrong})
    made = server.upload(chart, parameters='{"override": true, "skip_lint": true}').json()
    one = OneRelease(server, namespace, "never", helm_cli)
    assert one.create(made["id"], values={}).status_code == 201
    assert one.settled()["status"] == "FAILED"
    typed = server.command("drift", "never", "-n", namespace, "--detailed-exitcode")
    assert (typed.returncode, "1 of its objects is not there (-); never created" in typed.stderr) == (0, True)
    page, told = person.page, "Revision 1 failed: 1 of its objects is not there. It was never created"
    page.goto(f"{person.home}/releases/bulk/drift?release=test/{namespace}/never")
    expect(page.locator("tbody tr")).to_contain_text("Never created")
    expect(page.locator("tbody tr")).to_contain_text(told)
    expect(page.get_by_role("heading", level=1)).to_contain_text("0 of 1")
    person.open_release(namespace, "never", "/diff?to=live")
    expect(page.locator("main")).to_contain_text(told)
    expect(page.get_by_text("Its objects were changed by something other than Helm")).to_have_count(0)
    expect(page.locator(".drift")).to_contain_text("Nothing was changed by others")
    page.goto(f"{person.home}/releases?namespace={namespace}&drifted=yes")
    expect(page.locator("tbody tr")).to_have_count(0)


def test_pods_that_are_unwell_after_a_change_without_waiting_are_told_on_the_first_page(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, half: dict[str, str]
):
    one = OneRelease(server, namespace, "green", helm_cli)
    assert one.create(half["1.1.0"], values={}).status_code == 201
    assert one.settled()["status"] == "DEPLOYED"
    person.open_release(namespace, "green")
    card = person.page.locator("section.card", has=person.page.get_by_role("heading", name="Live objects"))
    expect(card).to_contain_text(re.compile(r"(Progressing|Degraded)\s*Deployment\s*green-web"))
    card.get_by_role("link", name="See what is wrong with them").click()
    expect(person.page.locator("#tree")).to_contain_text("Pod")

"""The way from drift to its mending, and what is offered while something else is at work on a release."""

import re
from collections.abc import Callable

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType
from playwright.sync_api import expect

from tests.support.browsers import Visit
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tools.localcluster.cluster import RunningCluster

FORCE = "Take over fields that other programs manage"


def test_drift_is_mended_from_the_page_that_shows_it_and_its_notice_goes(
    person: Visit, kubernetes: RunningCluster, namespace: str, install: Callable[[str], None]
):
    install("drifts")
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    try:
        edited = {"data": {"text": "edited"}}
        client.patch(
            ConfigMap, "drifts-config", edited, namespace=namespace, patch_type=PatchType.MERGE,
            field_manager="kubectl-edit",
        )  # fmt: skip
        page, notice = person.page, person.page.get_by_text("Its objects were changed by something other than Helm")
        person.open_release(namespace, "drifts", "/diff?to=live")
        expect(notice).to_be_visible()
        person.open_release(namespace, "drifts", "/change")
        page.get_by_role("button", name="Plan it").click()
        expect(page.locator(".card.bad")).to_contain_text(f"choose the option “{FORCE}”")
        expect(page.get_by_role("button", name="Upgrade drifts")).to_have_count(0)
        person.open_release(namespace, "drifts", "/diff?to=live")
        page.get_by_role("link", name="Apply the release again").click()
        expect(page.get_by_label(FORCE)).to_be_checked()
        page.get_by_role("button", name="Plan it").click()
        expect(page.locator(".chips").first).to_have_text(re.compile(r"^\s*Changed1\s*$"))
        expect(page.locator(".object > summary")).to_contain_text("Put back")
        expect(page.locator(".object td.old")).to_be_visible()
        expect(page.locator(".object td.old")).to_contain_text("edited")
        expect(page.locator(".apply")).to_contain_text(FORCE)
        page.get_by_role("button", name="Upgrade drifts").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
        assert client.get(ConfigMap, "drifts-config", namespace=namespace).data == {"text": "hello"}
        person.open_release(namespace, "drifts")
        expect(page.locator(".lead").first).to_contain_text("revision 2")
        expect(notice).to_have_count(0)
    finally:
        client.close()


def test_what_cannot_be_done_while_an_operation_is_under_way_is_not_offered(
    person: Visit, server: RunningServer, namespace: str, start_stuck: Callable[..., str]
):
    operation_id = start_stuck("busy")
    path = f"/api/v1/operations/{operation_id}"
    wait_for(lambda: server.send("GET", path).json()["state"] == "running")
    page = person.page
    page.goto(f"{person.home}/releases?namespace={namespace}")
    expect(page.locator(".state .icon-loader")).to_have_css("animation-name", "turn")
    person.open_release(namespace, "busy")
    for name in ("Change", "Roll back"):
        expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
    expect(page.locator("main .notice.busy")).to_contain_text(
        "Until it has ended, the release cannot be changed otherwise."
    )
    page.get_by_role("link", name="stop it").click()
    page.get_by_role("button", name="Cancel the install").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelled", timeout=30_000)
    page.goto(f"{person.home}/operations/{operation_id}/cancel")
    expect(page.locator("main")).to_contain_text("It has ended: there is nothing to cancel.")
    expect(page.get_by_role("button", name=re.compile("^Cancel"))).to_have_count(0)
    fields: dict[str, str | float | bool] = {"csrf": page.locator("input[name=csrf]").first.input_value()}
    answer = page.request.post(
        f"{person.home}/operations/{operation_id}/cancel", form=fields, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status == 409
    assert re.search(r"has ended at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: ", answer.text())


@pytest.mark.parametrize("write", ["rollback", "uninstall"])
def test_a_write_during_an_upgrade_is_refused_in_words_that_fit(  # noqa: PLR0917 (fixtures)
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, charts: dict[str, str],
    install: Callable[[str], None], write: str,
):  # fmt: skip
    install("moves")
    one, page = OneRelease(server, namespace, "moves", helm_cli), person.page
    person.open_release(namespace, "moves", f"/{write}?to=1")
    waits = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "600"}
    started = one.update(chart_id=charts["stuck"], values={}, headers=waits)
    assert started.status_code == 200, started.text
    wait_for(lambda: len(one.history()) == 2)  # what a cancel goes back to is known by then
    if write == "uninstall":
        page.get_by_label(re.compile("to confirm")).fill("moves")
    button = {"rollback": "Roll back to revision 1", "uninstall": "Uninstall"}[write]
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("an upgrade of release 'moves' is running")
    expect(page.get_by_role("alert")).not_to_contain_text("Update release is forbidden")
    page.get_by_role("link", name="stop it").click()
    expect(page.locator("main")).to_contain_text("The release goes back to revision 1, the last that was deployed.")
    page.get_by_role("button", name="Cancel the upgrade").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelled", timeout=30_000)
    expect(page.locator("main .facts")).not_to_contain_text("Revision 2 compared with 2")

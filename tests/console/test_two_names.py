"""One cluster under two names: the pages under one tell what is at work under the other."""

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.support.browsers import Visit
from tests.support.servers import RunningServer, wait_for


def test_what_is_at_work_under_another_name_is_told_and_cannot_be_unlocked(
    person: Visit, server: RunningServer, namespace: str, start_stuck: Callable[..., str], kubeconfig: str
):
    page = person.page
    page.goto(f"{person.home}/clusters/new")
    page.get_by_label("Name", exact=True).fill("second-name")
    page.get_by_label("Kubeconfig").fill(kubeconfig)
    page.get_by_role("button", name="Add the cluster").click()
    expect(page.locator("main .notice.busy").first).to_contain_text("The same API server is registered as")
    expect(page.locator("#age")).to_contain_text("confirmed", timeout=20_000)
    operation_id = start_stuck("busy")
    path, at = f"/api/v1/operations/{operation_id}", f"{person.home}/releases/second-name/{namespace}/busy"
    try:
        wait_for(lambda: page.request.get(at).status == 200)
        page.goto(at)
        notice = page.locator("main .notice.busy").first
        expect(notice).to_contain_text("Install is running through cluster")
        expect(page.locator("main")).not_to_contain_text("Locked by another program")
        for name in ("Unlock", "Change", "Roll back", "Uninstall"):
            expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
        page.goto(f"{person.home}/releases?cluster=second-name&namespace={namespace}")
        expect(page.locator("tbody tr")).to_contain_text("elsewhere")
        expect(page.locator("tbody .tag.bad")).to_have_count(0)
        page.get_by_label("Locked").check()
        expect(page.locator(".empty")).to_contain_text("No release matches.")
        page.goto(f"{at}/unlock")
        expect(page.locator("main")).to_contain_text("an operation of Pilothouse is at work on it")
        expect(page.get_by_role("button", name="Unlock")).to_have_count(0)
        page.goto(f"{at}/history")
        expect(page.locator("main tbody")).not_to_contain_text("another client")
        page.goto(at)
        notice.get_by_role("link", name="Follow it").click()
        expect(page).to_have_url(re.compile(f"{person.home}/operations/{operation_id}$"))
    finally:
        server.send("POST", f"{path}/cancel")
        wait_for(lambda: server.send("GET", path).json()["finished_at"] is not None)
        found = server.send("GET", "/api/v1/clusters").json()
        (second,) = (one["id"] for one in found if one["name"] == "second-name")
        assert server.send("DELETE", f"/api/v1/clusters/{second}").status_code == 204


def test_the_cause_of_a_failure_is_found_under_the_other_name(
    person: Visit, server: RunningServer, namespace: str, start_stuck: Callable[..., str], kubeconfig: str
):
    body = {"name": "other-name", "kubeconfig": kubeconfig}
    made = server.send("POST", "/api/v1/clusters", json_body=body).json()
    try:
        server.wait_until_listed(made["id"])
        operation_id = start_stuck("fails", seconds=2)
        assert server.wait_until_final(namespace, "fails")["status"] == "FAILED"
        page = person.page
        at = f"{person.home}/releases/other-name/{namespace}/fails"
        wait_for(lambda: "Failed" in page.request.get(at).text())
        page.goto(at)
        expect(page.locator(".feed li")).to_contain_text("ordered under another name of this cluster")
        page.get_by_role("link", name="See why").click()
        expect(page).to_have_url(re.compile(f"{person.home}/operations/{operation_id}$"))
    finally:
        assert server.send("DELETE", f"/api/v1/clusters/{made['id']}").status_code == 204

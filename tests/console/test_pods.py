"""Pods of a release on pages: logs as they come, events, and who may see them."""

import asyncio
import re
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.support.browsers import Visit, visit
from tests.support.charts import build_chart
from tests.support.hostile_clusters import Attack, HostileCluster, answer, hostile_cluster, release_secret
from tests.support.servers import RunningServer, wait_for
from tests.support.users import PASSWORD, add_person
from tests.support.workloads import deployment_template

POD = "/api/v1/namespaces/shop/pods/web-1"
LAST = "this line is on standard error"


@pytest.fixture
def web(server: RunningServer, namespace: str) -> str:
    """The namespace of a release ``web`` with one pod, which runs."""
    chart = build_chart("talks", f"1.0.{uuid.uuid4().int % 10**9}", templates={"web.yaml": deployment_template()})
    chart_id = server.upload(chart).json()["id"]
    server.create(chart_id=chart_id, namespace=namespace, name="web", values={})
    assert server.wait_until_final(namespace, "web")["status"] == "DEPLOYED"
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/web/resources"
    wait_for(lambda: server.send("GET", path).json()["health"] == "healthy")
    return namespace


def test_the_log_of_a_pod_is_two_clicks_from_its_release(person: Visit, web: str):
    page = person.page
    person.open_release(web, "web", "/resources")
    page.get_by_role("link", name="log and events").click()
    expect(page.locator("pre.log")).to_contain_text(LAST)
    expect(page.locator("main")).to_contain_text("Scheduled")
    page.get_by_label("Lines").select_option("300")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("tail=300"))
    expect(page.locator("pre.log")).to_contain_text(LAST)
    page.get_by_role("link", name="Follow", exact=True).click()
    expect(page.locator("pre[data-follows]")).to_contain_text(LAST)
    page.get_by_role("link", name="Stop following").click()
    expect(page.locator("pre[data-follows]")).to_have_count(0)
    page.get_by_label("of the run before the last restart").check()
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#log")).to_contain_text("It has not restarted")
    page.get_by_role("link", name="Live objects").click()
    expect(page.locator(".tree")).to_contain_text("Deployment")


def test_a_log_can_be_read_without_scripts_and_not_without_the_right(browser: Browser, server: RunningServer, web: str):
    viewer = add_person(server, "readonly", project_id=server.project_id)
    for name, password, sees in (("admin", "", True), (viewer.name, PASSWORD, False)):
        with visit(browser, server, scripts=False) as reader:
            reader.log_in(name=name, password=password)
            reader.open_release(web, "web", "/resources")
            reader.page.get_by_role("link", name="log and events").click()
            expect(reader.page.locator("main")).to_contain_text("Scheduled")
            if sees:
                expect(reader.page.locator("pre.log")).to_contain_text(LAST)
            else:
                expect(reader.page.locator("main")).to_contain_text("To read logs it takes pilothouse:logs:read")
                expect(reader.page.locator("pre.log")).to_have_count(0)


@pytest.fixture
def talking(
    request: pytest.FixtureRequest, server: RunningServer, tmp_path: Path
) -> Iterator[tuple[HostileCluster, str]]:
    """A cluster of our own whose pod says what a test tells it to, and its name here; its release has a status."""
    status = getattr(request, "param", "deployed")
    with hostile_cluster(tmp_path) as cluster:
        annotations = {"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "shop"}
        marks = {"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": annotations}
        metadata = {"name": "web-1", "uid": "u", **marks}
        pod = {"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "main"}]}}
        manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1}\n"
        cluster.secrets = [release_secret("web", status=status, manifest=manifest)]
        cluster.attacks[f"{POD}/log"] = says(b"")
        cluster.attacks[POD] = says(pod)
        name = f"talking-{uuid.uuid4().hex[:8]}"
        made = server.send("POST", "/api/v1/clusters", json_body={"name": name, "kubeconfig": cluster.kubeconfig})
        assert made.status_code == 201, made.text
        yield cluster, name
        assert server.send("DELETE", f"/api/v1/clusters/{made.json()['id']}").status_code == 204


def says(body: object) -> Attack:
    async def attack(_: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, body)

    return attack


def test_lines_appear_as_they_are_written_and_are_texts(person: Visit, talking: tuple[HostileCluster, str]):
    cluster, name = talking
    more: list[bytes] = []
    followed = threading.Event()

    async def talk(target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        said = b"".join(b"line %d\n" % number for number in range(200)) + b"<script>alert(1)</script> password: abc\n"
        writer.write(b"%x\r\n%s\r\n" % (len(said), said))
        told = 0
        while "follow=true" in target:
            await writer.drain()
            followed.set()
            await asyncio.sleep(0.05)
            for text in more[told:]:  # each connection tells all: one that its client left takes none from the next
                writer.write(b"%x\r\n%s\r\n" % (len(text), text))
            told = len(more)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    cluster.attacks[f"{POD}/log"] = talk
    page = person.page
    page.goto(f"{person.home}/releases/{name}/shop/web/pod?pod=web-1&follow=1")
    log = page.locator("pre[data-follows]")
    expect(log).to_contain_text("<script>alert(1)</script> password: ***")
    page.evaluate("window.same = true")
    assert followed.wait(10), "the page holds the lines of before; what follows is asked for after it"
    time.sleep(0.5)  # until those lines have been read again, and passed over
    more.append(b"a line that came later\n")
    expect(log).to_contain_text("a line that came later", timeout=20_000)
    assert page.evaluate("window.same"), "it was not loaded again"
    at_the_end: Any = log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight < 2")
    assert at_the_end
    log.evaluate("log => { log.scrollTop = 0; }")
    more.append(b"a line that does not pull one down\n")
    expect(log).to_contain_text("does not pull one down", timeout=20_000)
    assert log.evaluate("log => log.scrollTop") == 0


def test_a_log_is_followed_although_the_scripts_of_the_page_come_one_after_the_other(
    person: Visit, talking: tuple[HostileCluster, str]
):
    _, name = talking
    page = person.page

    def later(route: Route) -> None:
        time.sleep(1)
        route.continue_()

    page.route("**/static/hx-sse-*", later)
    with page.expect_request("**/pod/live?*", timeout=10_000):
        page.goto(f"{person.home}/releases/{name}/shop/web/pod?pod=web-1&follow=1")
    expect(page.locator("#log")).to_contain_text("It has written nothing yet")


def test_what_the_cluster_refuses_is_said_in_its_place(person: Visit, talking: tuple[HostileCluster, str]):
    cluster, name = talking

    async def refuse(_: str, writer: asyncio.StreamWriter) -> None:
        status = {"kind": "Status", "message": "container main is waiting to start: <b>ImagePullBackOff</b>"}
        await answer(writer, status, status=400)

    cluster.attacks[f"{POD}/log"] = refuse
    page = person.page
    page.goto(f"{person.home}/releases/{name}/shop/web/pod?pod=web-1")
    expect(page.locator("#log")).to_contain_text("waiting to start: <b>ImagePullBackOff</b>")
    expect(page.locator("select[name=container]")).to_have_value("main")
    page.goto(f"{person.home}/releases/{name}/shop/web/pod?pod=web-2")
    expect(page.get_by_role("alert")).to_contain_text("is none of release 'web'")


@pytest.mark.parametrize("talking", ["pending-upgrade"], indirect=True)
def test_a_lock_that_is_not_the_one_that_was_shown_is_not_ended(person: Visit, talking: tuple[HostileCluster, str]):
    cluster, name = talking
    page = person.page
    page.goto(f"{person.home}/releases/{name}/shop/web/unlock")
    cluster.secrets = [release_secret("web", revision=2, status="pending-upgrade")]
    page.get_by_label("Why is its writer known to be dead?").fill("revision 1 has waited for an hour")
    page.get_by_role("button", name="Unlock").click()
    expect(page.get_by_role("alert")).to_contain_text("it is at revision 2 now; look at it again")
    assert not [one for one in cluster.requests if one.startswith(("PUT", "PATCH", "POST")) and "/secrets" in one]

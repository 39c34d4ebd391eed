"""``Prefer: wait``: a caller may have the server wait instead of asking again and again."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.support.charts import build_chart, config_map_chart, config_map_template, hook_job_template
from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.wire import assert_error

STALLS = "pilothouse.dev/simulate: never-ready"


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return str(server.upload(config_map_chart("awaited")).json()["id"])


def stalling_chart() -> bytes:
    """Its hook never ends."""
    hook = hook_job_template().replace(
        "    spec:\n      restart", f"    metadata: {{annotations: {{{STALLS}}}}}\n    spec:\n      restart"
    )
    return build_chart(
        "stalling", templates={"hook.yaml": hook, "config.yaml": config_map_template()}, values={"text": "x"}
    )


def show(server: RunningServer, namespace: str, name: str, *prefer: str) -> httpx2.Response:
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/{name}"
    return server.send("GET", path, headers={"Prefer": ", ".join(prefer)} if prefer else {})


def test_show_answers_when_the_release_is_deployed(server: RunningServer, chart: str, namespace: str):
    assert server.create(chart_id=chart, namespace=namespace, name="soon").status_code == 201
    answer = show(server, namespace, "soon", "respond-async", 'wait="30"')
    assert answer.json()["status"] == "DEPLOYED"
    assert answer.headers["preference-applied"] == "wait=30"


def test_a_release_that_is_settled_is_answered_at_once(server: RunningServer, chart: str, namespace: str):
    server.create(chart_id=chart, namespace=namespace, name="done")
    server.wait_until_final(namespace, "done")
    started = time.monotonic()
    assert show(server, namespace, "done", "wait=60").json()["status"] == "DEPLOYED"
    assert time.monotonic() - started < 30


def test_after_the_wait_the_release_is_answered_as_it_is(server: RunningServer, namespace: str):
    chart = server.upload(stalling_chart(), parameters='{"override": true}').json()["id"]
    body = {"chart_id": chart, "namespace": namespace, "name": "never"}
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    assert server.send("POST", path, json_body=body, headers={"X-Pilothouse-Timeout": "10"}).status_code == 201
    started = time.monotonic()
    answer = show(server, namespace, "never", "wait=2")
    assert answer.json()["status"] == "PENDING_INSTALL"
    assert time.monotonic() - started >= 2


def test_many_may_wait_for_one_release(server: RunningServer, chart: str, namespace: str):
    with ThreadPoolExecutor(8) as pool:
        server.create(chart_id=chart, namespace=namespace, name="popular")
        answers = list(pool.map(lambda _: show(server, namespace, "popular", "wait=30"), range(8)))
    assert {answer.json()["status"] for answer in answers} == {"DEPLOYED"}


@pytest.mark.parametrize(
    "preference", ["wait", "wait=", "wait=soon", "wait=-1", "await=30", "return=minimal", "wait=0"]
)
def test_a_preference_that_is_not_understood_is_ignored(
    server: RunningServer, chart: str, namespace: str, preference: str
):
    server.create(chart_id=chart, namespace=namespace, name="plain")
    answer = show(server, namespace, "plain", preference)
    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers


def test_a_longer_wait_than_a_minute_is_cut_to_a_minute(server: RunningServer, chart: str, namespace: str):
    server.create(chart_id=chart, namespace=namespace, name="long")
    assert show(server, namespace, "long", "wait=86400").headers["preference-applied"] == "wait=60"


def test_waiting_for_a_release_that_does_not_exist_is_not_found_at_once(server: RunningServer, namespace: str):
    assert_error(show(server, namespace, "nobody", "wait=60"), 404, "CCE.01404001", "'nobody'")


def test_a_server_that_stops_answers_those_who_wait(kubeconfig: str, make_namespace: Callable[[], str]):
    namespace = make_namespace()
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig) as server, ThreadPoolExecutor(1) as pool:
        chart = server.upload(stalling_chart()).json()["id"]
        server.create(chart_id=chart, namespace=namespace, name="never", parameters={})
        waiting = pool.submit(show, server, namespace, "never", "wait=60")
        time.sleep(1.0)  # until the request has arrived; a later one would be refused and fail the test
        os.kill(server.pid, signal.SIGTERM)
        answer = waiting.result(timeout=30)
    assert answer.status_code == 200
    assert answer.json()["status"] == "PENDING_INSTALL"

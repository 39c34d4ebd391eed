"""A tenant that takes what it can get: another one's requests and operations go on."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.support.charts import build_chart, config_map_chart
from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error
from tests.support.workloads import deployment_template

ENDLESS = "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"
#: Four places: a project gets two, an API server three.
LIMITS = {"PILOTHOUSE_WORKER__OPERATIONS": "4", "PILOTHOUSE_STREAMS_PER_USER": "3", "PILOTHOUSE_STREAMS": "4"}


@pytest.fixture(scope="module")
def shared(kubeconfig: str) -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def other(shared: RunningServer, kubeconfig: str) -> RunningServer:
    """Another customer with a registration of the same API server."""
    tenant = add_tenant(shared)
    made = tenant.send("POST", "/api/v1/clusters", json_body={"name": "same", "kubeconfig": kubeconfig})
    assert made.status_code == 201, made.text
    return dataclasses.replace(tenant, cluster_id=made.json()["id"])


@contextlib.contextmanager
def attacking(attack: Callable[[], httpx2.Response], *, at_once: int) -> Iterator[list[int]]:
    """So many of these requests at a time, again and again, inside the block; gives the answers' status codes."""
    over, answers = threading.Event(), list[int]()

    def repeat() -> None:
        while not over.is_set():
            answers.append(attack().status_code)

    threads = [threading.Thread(target=repeat) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def chart(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive, parameters='{"override": true, "skip_lint": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_charts_that_are_never_ready_do_not_stop_the_others(
    shared: RunningServer, other: RunningServer, namespace: str
):
    stuck = chart(shared, build_chart("stuck", templates={"d.yaml": deployment_template(fate="never-ready")}))
    ready = chart(other, config_map_chart("ready"))
    names = [f"stuck-{number}" for number in range(5)]
    path = f"/cce/cam/v3/clusters/{shared.cluster_id}/releases"
    headers = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "3600"}
    operations = []
    for name in names:
        body = {"chart_id": stuck, "namespace": namespace, "name": name}
        answer = shared.send("POST", path, json_body=body, headers=headers)
        assert answer.status_code == 201, answer.text
        operations.append(answer.headers["x-operation-id"])
    try:
        time.sleep(3)
        assert other.create(chart_id=ready, namespace=namespace, name="ready").status_code == 201
        assert other.wait_until_final(namespace, "ready", seconds=30)["status"] == "DEPLOYED"
        found = shared.send("GET", "/api/v1/operations?state=running").json()
        assert len(found) == 2
    finally:
        for operation in operations:
            shared.send("POST", f"/api/v1/operations/{operation}/cancel")


def test_endless_name_templates_leave_the_others_theirs(shared: RunningServer, other: RunningServer, namespace: str):
    mine, theirs = chart(shared, config_map_chart("named")), chart(other, config_map_chart("named"))

    def attack() -> httpx2.Response:
        return shared.create(chart_id=mine, namespace=namespace, parameters={"name_template": ENDLESS})

    with attacking(attack, at_once=4) as answers:
        time.sleep(1)
        for _ in range(3):
            wanted = {"name_template": "ok-name", "dry_run": True}
            answer = other.create(chart_id=theirs, namespace=namespace, parameters=wanted)
            assert answer.status_code == 201, answer.text
    assert set(answers) <= {400, 429}


def test_a_flood_of_uploads_leaves_the_others_theirs(shared: RunningServer, other: RunningServer):
    flood, small = config_map_chart("flood"), config_map_chart("small")
    with attacking(lambda: shared.upload(flood, parameters='{"override": true}'), at_once=8) as answers:
        time.sleep(1)
        for _ in range(3):
            answer = other.upload(small, parameters='{"override": true}')
            assert answer.status_code == 201, answer.text
    assert set(answers) <= {201, 429}


def test_event_streams_end_at_a_users_share_and_what_ends_makes_room(
    shared: RunningServer, other: RunningServer, namespace: str
):
    stuck = chart(shared, build_chart("stuck", templates={"d.yaml": deployment_template(fate="never-ready")}))
    path = f"/cce/cam/v3/clusters/{shared.cluster_id}/releases"
    body = {"chart_id": stuck, "namespace": namespace, "name": "followed"}
    headers = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "8"}
    answer = shared.send("POST", path, json_body=body, headers=headers)
    events = f"/api/v1/operations/{answer.headers['x-operation-id']}/events"
    stream = {"Accept": "text/event-stream"}
    with attacking(lambda: shared.send("GET", events, headers=stream), at_once=3) as answers:
        time.sleep(2)
        refused = shared.send("GET", events, headers=stream)
        assert_error(refused, 429, "APIGW.0308", "this user has as many event streams as it may (3)")
        assert int(refused.headers["retry-after"]) > 0
        assert other.send("GET", "/v2/charts").status_code == 200
        assert not answers
        time.sleep(8)  # the operation has ended, and the streams with it
    assert 200 in answers
    assert shared.send("GET", events, headers=stream).status_code == 200

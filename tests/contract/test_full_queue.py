"""A server whose queue takes two operations for a cluster, and that forgets an operation a second after its end."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, open_folder, part, run_server, wait_for
from tests.support.wire import assert_error

FULL = (429, "APIGW.0308")
MISSING = (404, "CCE.01404001")


@pytest.fixture(scope="module")
def small_server(kubeconfig: str) -> Iterator[RunningServer]:
    environment = {
        "PILOTHOUSE_QUEUE__WAITING_PER_CLUSTER": "2",
        "PILOTHOUSE_QUEUE__RETRY_SECONDS": "7",
        "PILOTHOUSE_RETENTION__OPERATION_SECONDS": "1",
        "PILOTHOUSE_RETENTION__KEY_SECONDS": "1",
        "PILOTHOUSE_RETENTION__SWEEP_SECONDS": "0.5",
    }
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=environment) as running:
        running.wait_until_listed()
        yield running


@contextmanager
def worker_paused(server: RunningServer) -> Iterator[None]:
    worker = part(server, "worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def test_a_full_queue_says_when_to_come_again_and_a_delete_makes_room(
    small_server: RunningServer, namespace: str, helm_cli: HelmCommand
):
    chart = small_server.upload(config_map_chart("queued")).json()["id"]
    one, two, three = (OneRelease(small_server, namespace, name, helm_cli) for name in ("one", "two", "three"))
    with worker_paused(small_server):
        assert one.create(chart).status_code == two.create(chart).status_code == 201
        refused = three.create(chart)
        assert_error(refused, *FULL, "2 operations of this cluster are already queued")
        assert refused.headers["retry-after"] == "7"
        assert three.show().status_code == 404
        assert one.delete().json()["status"] == "DELETING"
        assert three.create(chart).status_code == 201
    assert two.settled()["status"] == three.settled()["status"] == "DEPLOYED"
    assert [name for name in ("one", "two", "three") if name in helm_cli("list", "-q", "-n", namespace).split()] == [
        "two",
        "three",
    ]


def test_a_failure_without_a_revision_is_forgotten_and_a_release_keeps_what_it_came_from(
    small_server: RunningServer, namespace: str, helm_cli: HelmCommand
):
    templates = {"c.yaml": config_map_template() + "{{ if .Values.broken }}{{ fail .Values.text }}{{ end }}"}
    archive = build_chart("kept", templates=templates, values={"text": "x", "broken": False})
    chart = small_server.upload(archive).json()["id"]
    kept, failed = (OneRelease(small_server, namespace, name, helm_cli) for name in ("kept", "failed"))
    kept.create(chart, description="from here")
    assert kept.settled()["status"] == "DEPLOYED"
    operation = failed.create(chart, values={"broken": True}).headers["x-operation-id"]
    wait_for(lambda: failed.show().status_code == 404)
    assert_error(failed.show(), *MISSING, "'failed' does not exist")
    assert_error(small_server.send("GET", f"/api/v1/operations/{operation}"), *MISSING)
    assert kept.settled()["description"] == "from here"
    assert [row["release"] for row in small_server.send("GET", "/api/v1/operations").json()][:1] == ["kept"]
    listed = small_server.send(
        "GET", f"/cce/cam/v3/clusters/{small_server.cluster_id}/releases?namespace={namespace}&chart_id={chart}"
    )
    assert [row["name"] for row in listed.json()] == ["kept"]

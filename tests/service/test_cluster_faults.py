"""The connection to the API server breaks at chosen requests of an action: the operation goes on, and ends right."""

from collections.abc import Iterator
from http import HTTPStatus

import psycopg
import pytest

from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, open_folder, run_server
from tools.localcluster.faults.proxy import FaultProxy, fault_proxy
from tools.localcluster.faults.rules import Rule


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with fault_proxy() as running:
        yield running


@pytest.fixture(scope="module")
def server(kubeconfig: str, proxy: FaultProxy) -> Iterator[RunningServer]:
    """A server that reaches its cluster through the proxy only."""
    with open_folder() as folder, run_server(folder, kubeconfig=proxy.kubernetes(kubeconfig)) as running:
        yield running


@pytest.fixture(scope="module")
def chart_id(server: RunningServer) -> str:
    answer = server.upload(config_map_chart("faulty", "1.0.0"))
    assert answer.status_code == HTTPStatus.CREATED, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def release(
    server: RunningServer, proxy: FaultProxy, namespace: str, helm_cli: HelmCommand, chart_id: str
) -> Iterator[OneRelease]:
    """A deployed release; its cluster is well again after the test."""
    one = OneRelease(server, namespace, "web", helm_cli)
    assert one.create(chart_id).status_code == HTTPStatus.CREATED
    assert one.settled()["status"] == "DEPLOYED"
    yield one
    proxy.clear()


def attempts(one: OneRelease) -> tuple[str, int, int]:
    """State, attempts and crashes of the last operation."""
    with psycopg.connect(one.server.database_url) as connection:
        row = connection.execute(
            "SELECT state, attempt, crashes FROM operations WHERE namespace = %s ORDER BY created_at DESC LIMIT 1",
            [one.namespace],
        ).fetchone()
    assert row is not None
    return row


def test_a_cluster_that_is_cut_off_before_the_first_write_is_tried_again(
    release: OneRelease, proxy: FaultProxy, chart_id: str
):
    proxy.arm(Rule(action="cut", verb="create", resource="secrets", namespace=release.namespace))
    assert release.update(chart_id=chart_id, values={"text": "new"}).status_code == HTTPStatus.OK
    assert release.settled()["status"] == "DEPLOYED"
    assert release.statuses() == ["superseded", "deployed"]
    assert attempts(release) == ("succeeded", 2, 0)


def test_a_last_write_that_does_not_arrive_is_no_success(release: OneRelease, proxy: FaultProxy, chart_id: str):
    secret = "sh.helm.release.v1.web.v2"
    proxy.arm(Rule(action="cut", verb="update", resource="secrets", name=secret, namespace=release.namespace))
    assert release.update(chart_id=chart_id, values={"text": "new"}).status_code == HTTPStatus.OK
    shown = release.settled()
    assert (shown["status"], shown["version"]) == ("DEPLOYED", 3)
    assert release.statuses() == ["superseded", "failed", "deployed"]
    assert attempts(release)[0] == "succeeded"


def test_an_uninstall_that_is_cut_off_while_it_forgets_the_history_is_finished(
    release: OneRelease, proxy: FaultProxy, helm_cli: HelmCommand
):
    proxy.arm(Rule(action="cut", verb="delete", resource="secrets", namespace=release.namespace))
    assert release.delete().status_code == HTTPStatus.OK
    release.gone()
    assert helm_cli("list", "-n", release.namespace, "-q") == ""
    assert attempts(release)[0] == "succeeded"


def test_a_rollback_whose_objects_cannot_be_written_fails_and_can_be_done_again(
    release: OneRelease, proxy: FaultProxy, chart_id: str
):
    release.update(chart_id=chart_id, values={"text": "new"})
    release.settled()
    proxy.arm(Rule(action="cut", verb="patch", resource="configmaps", namespace=release.namespace))
    assert release.rollback(1).status_code == HTTPStatus.OK
    shown = release.settled()
    assert shown["status"] == "FAILED"
    assert "Rollback" in shown["status_description"]
    proxy.clear()
    assert release.rollback(1).status_code == HTTPStatus.OK
    assert release.settled()["status"] == "DEPLOYED"
    assert release.values()["text"] == "hello"
    assert release.statuses().count("deployed") == 1

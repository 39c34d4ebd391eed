"""The connection to the API server breaks at chosen requests of an action: the operation goes on, and ends right."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import httpx2
import psycopg
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap

from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, open_folder, run_server
from tools.localcluster.cluster import RunningCluster
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


@pytest.fixture(scope="module")
def direct(kubernetes: RunningCluster) -> Iterator[Client]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield api


@pytest.fixture
def make_release(
    server: RunningServer, proxy: FaultProxy, make_namespace: Callable[[], str], helm_cli: HelmCommand
) -> Iterator[Callable[[str], OneRelease]]:
    """A name for a release in a namespace of its own; the cluster is well again after the test."""
    yield lambda name: OneRelease(server, make_namespace(), name, helm_cli)
    proxy.clear()


@pytest.fixture
def release(make_release: Callable[[str], OneRelease], chart_id: str) -> OneRelease:
    """A deployed release."""
    one = make_release("web")
    assert one.create(chart_id).status_code == HTTPStatus.CREATED
    assert one.settled()["status"] == "DEPLOYED"
    return one


def attempts(one: OneRelease) -> tuple[str, int, int]:
    """State, attempts and crashes of the last operation."""
    with psycopg.connect(one.server.database_url) as connection:
        row = connection.execute(
            "SELECT state, attempt, crashes FROM operations WHERE namespace = %s ORDER BY created_at DESC LIMIT 1",
            [one.namespace],
        ).fetchone()
    assert row is not None
    return row


BREAKS: dict[str, dict[str, Any]] = {
    "cut": {"action": "cut"},
    "answer-lost": {"action": "cut", "when": "answer"},
    "too-many": {"action": "refuse", "status": HTTPStatus.TOO_MANY_REQUESTS.value},
    "unavailable": {"action": "refuse", "status": HTTPStatus.SERVICE_UNAVAILABLE.value},
}
DEPLOYING: dict[str, dict[str, Any]] = {
    "before": {"verb": "create", "resource": "secrets"},
    "middle": {"verb": "patch", "resource": "configmaps"},
}
#: Each action's first write and one in its middle; an uninstall ignores that its first does not arrive.
POINTS = {
    "install": DEPLOYING,
    "upgrade": DEPLOYING,
    "rollback": DEPLOYING,
    "uninstall": {
        "before": {"verb": "list", "resource": "secrets", "agent": "Helm/*"},
        "middle": {"verb": "delete", "resource": "configmaps"},
    },
}


@pytest.mark.parametrize("action", POINTS)
def test_an_action_gets_over_a_break_at_any_point(
    action: str, make_release: Callable[[str], OneRelease], proxy: FaultProxy, direct: Client, chart_id: str
):
    releases = {f"{point}-{kind}": make_release(f"{point}-{kind}") for kind in BREAKS for point in POINTS[action]}
    prepare(action, list(releases.values()), chart_id)
    for kind, how in BREAKS.items():
        for point, where in POINTS[action].items():
            proxy.arm(Rule(**how, **where, namespace=releases[f"{point}-{kind}"].namespace))
    for one in releases.values():
        answer = act(action, one, chart_id)
        assert answer.is_success, answer.text
    for one in releases.values():
        if action == "uninstall":
            one.gone()
            assert one.helm("list", "-n", one.namespace, "-q") == ""
            assert config_maps(direct, one) == []
        else:
            assert one.settled()["status"] == "DEPLOYED", one.settled()
            *older, newest = one.statuses()
            assert newest == "deployed"
            assert {*older} <= {"superseded", "failed"}
            assert one.values()["text"] == ("hello" if action == "rollback" else "new")
            assert config_maps(direct, one) == [f"{one.name}-config"]
        state, count, crashes = attempts(one)
        assert (state, crashes <= 1) == ("succeeded", True)
        assert one.name.endswith("answer-lost") or action == "uninstall" or count > 1
    struck = [one for one in proxy.exchanges() if one.status in {429, 503}]
    assert len({one.namespace for one in struck} & {one.namespace for one in releases.values()}) == 4


def prepare(action: str, releases: list[OneRelease], chart_id: str) -> None:
    """What the action starts from."""
    if action == "install":
        return
    for one in releases:
        assert one.create(chart_id).is_success
    for one in releases:
        assert one.settled()["status"] == "DEPLOYED"
    if action == "rollback":
        for one in releases:
            assert one.update(chart_id=chart_id, values={"text": "new"}).is_success
        for one in releases:
            assert one.settled()["version"] == 2


def act(action: str, one: OneRelease, chart_id: str) -> httpx2.Response:
    match action:
        case "install":
            return one.create(chart_id, values={"text": "new"})
        case "upgrade":
            return one.update(chart_id=chart_id, values={"text": "new"})
        case "rollback":
            return one.rollback(1)
        case _:
            return one.delete()


def config_maps(api: Client, one: OneRelease) -> list[str]:
    """The names of the release's ConfigMaps that are in the cluster."""
    found = [made.metadata.name for made in api.list(ConfigMap, namespace=one.namespace) if made.metadata]
    return [name for name in found if name and name.startswith(one.name)]


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


def test_what_no_attempt_can_write_fails_after_three_and_can_be_done_again(
    release: OneRelease, proxy: FaultProxy, chart_id: str
):
    release.update(chart_id=chart_id, values={"text": "new"})
    release.settled()
    proxy.arm(Rule(action="cut", verb="patch", resource="configmaps", namespace=release.namespace, nth=0))
    assert release.rollback(1).status_code == HTTPStatus.OK
    shown = release.settled()
    assert shown["status"] == "FAILED"
    assert "Rollback" in shown["status_description"]
    assert attempts(release) == ("failed", 4, 3)
    assert release.statuses() == [*4 * ["superseded"], "failed"]  # Helm supersedes what a rollback starts from
    proxy.clear()
    assert release.rollback(1).status_code == HTTPStatus.OK
    assert release.settled()["status"] == "DEPLOYED"
    assert release.values()["text"] == "hello"
    assert release.statuses().count("deployed") == 1

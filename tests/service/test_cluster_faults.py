"""The connection to the API server breaks at chosen requests of an action: the operation goes on, and ends right."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap

from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.repairs import looking_again, write_late
from tests.support.servers import RunningServer, open_folder, part, run_server, wait_for
from tests.support.workloads import hook_template
from tools.localcluster.cluster import RunningCluster
from tools.localcluster.faults.proxy import FaultProxy, fault_proxy
from tools.localcluster.faults.rules import Rule


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with fault_proxy() as running:
        yield running


@pytest.fixture(scope="module")
def server(kubeconfig: str, proxy: FaultProxy) -> Iterator[RunningServer]:
    """Yield a server that reaches its cluster through the proxy only."""
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
    """Yield a name for a release in a namespace of its own; the cluster is well again after the test."""
    yield lambda name: OneRelease(server, make_namespace(), name, helm_cli)
    proxy.clear()


@pytest.fixture
def release(make_release: Callable[[str], OneRelease], chart_id: str) -> OneRelease:
    """Return a deployed release."""
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
#: How the engine names itself to the API server.
ENGINE = "pilothouse Helm/*"
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
        "before": {"verb": "list", "resource": "secrets", "agent": ENGINE},
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
    """Make what the action starts from."""
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
    """Return the names of the release's ConfigMaps that are in the cluster."""
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


@pytest.mark.parametrize("action", ["upgrade", "rollback"])
def test_two_revisions_are_never_deployed_though_helm_lost_its_write_about_the_older(
    action: str, release: OneRelease, proxy: FaultProxy, chart_id: str
):
    """Helm only logs that it could not say that the revision before is superseded."""
    assert release.update(chart_id=chart_id, values={"text": "new"}).status_code == HTTPStatus.OK
    assert release.settled()["version"] == 2
    secret = "sh.helm.release.v1.web.v2"
    proxy.arm(Rule(action="cut", verb="update", resource="secrets", name=secret, namespace=release.namespace))
    assert act(action, release, chart_id).is_success
    assert (release.settled()["status"], release.settled()["version"]) == ("DEPLOYED", 3)
    assert release.statuses() == ["superseded", "superseded", "deployed"]


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


@pytest.fixture
def overtaken(release: OneRelease, proxy: FaultProxy, chart_id: str, tmp_path: Path) -> OneRelease:
    """Another program made revision 2, just before our upgrade, which was to write that, began to write revision 3."""
    chart = tmp_path / "chart.tgz"
    chart.write_bytes(config_map_chart("faulty", "1.0.0"))
    proxy.arm(
        Rule(action="freeze", verb="list", resource="secrets", agent="pilothouse Helm/*", namespace=release.namespace)
    )
    assert release.update(chart_id=chart_id, values={"text": "new"}).status_code == HTTPStatus.OK
    (held,) = wait_for(lambda: proxy.wait_held(5))
    release.helm("upgrade", release.name, str(chart), "-n", release.namespace, "--set", "text=theirs")
    proxy.arm(Rule(action="freeze", verb="patch", resource="configmaps", namespace=release.namespace))
    proxy.release(held, "pass")
    wait_for(lambda: proxy.wait_held(5))
    assert release.statuses() == ["superseded", "deployed", "pending-upgrade"]
    return release


def test_an_upgrade_whose_number_was_taken_survives_its_worker(overtaken: OneRelease, proxy: FaultProxy):
    os.kill(part(overtaken.server, "worker"), signal.SIGKILL)
    wait_for(lambda: attempts(overtaken)[1] == 2)
    proxy.clear("cut")
    assert (overtaken.settled()["status"], overtaken.settled()["version"]) == ("DEPLOYED", 4)
    assert overtaken.statuses() == ["superseded", "superseded", "failed", "deployed"]
    assert overtaken.values()["text"] == "new"


def test_a_cancel_of_an_upgrade_whose_number_was_taken_leaves_no_lock(
    overtaken: OneRelease, proxy: FaultProxy, tmp_path: Path
):
    with psycopg.connect(overtaken.server.database_url) as connection:
        row = connection.execute(
            "SELECT id FROM operations WHERE namespace = %s AND state = 'running'", [overtaken.namespace]
        ).fetchone()
    assert row is not None
    assert overtaken.server.send("POST", f"/api/v1/operations/{row[0]}/cancel").is_success
    wait_for(lambda: attempts(overtaken)[0] == "cancelled")
    proxy.clear("cut")
    assert overtaken.statuses() == ["superseded", "deployed", "failed"]
    overtaken.helm("upgrade", overtaken.name, str(tmp_path / "chart.tgz"), "-n", overtaken.namespace)
    assert overtaken.statuses()[-1] == "deployed"


@pytest.mark.parametrize("text", ["theirs", "late"])
def test_what_helm_installs_while_a_repair_removes_leftovers_stays(
    text: str, release: OneRelease, proxy: FaultProxy, kubernetes: RunningCluster, tmp_path: Path
):
    """With "late" Helm finds just what it wants: then nothing changes, and only the look afterwards can tell."""
    release.delete()
    release.gone()
    chart = tmp_path / "chart.tgz"
    chart.write_bytes(config_map_chart("faulty", "1.0.0"))
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False, field_manager="helm") as helm:
        write_late(helm, release, "config", "late")
    objects = [["v1", "ConfigMap", release.namespace, f"{release.name}-config"]]
    proxy.arm(Rule(action="freeze", verb="delete", resource="configmaps", namespace=release.namespace))
    with looking_again(release, objects=objects):
        (held,) = wait_for(lambda: proxy.wait_held(5))
        release.helm("install", release.name, str(chart), "-n", release.namespace, "--set", f"text={text}")
        proxy.release(held, "pass")
    assert release.statuses() == ["deployed"]
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        assert api.get(ConfigMap, f"{release.name}-config", namespace=release.namespace).data == {"text": text}


def test_a_rollback_leaves_alone_another_one_to_the_same_revision_that_took_its_number(
    make_release: Callable[[str], OneRelease],
    server: RunningServer,
    proxy: FaultProxy,
    kubernetes: RunningCluster,
    tmp_path: Path,
):
    hook = hook_template("pre-rollback", fate="never-ready", kind="Pod")
    templates = {"map.yaml": config_map_template(), "hook.yaml": hook}
    archive = build_chart("hooked", templates=templates, values={"text": "x"})
    chart_id = str(server.upload(archive).json()["id"])
    release = make_release("web")
    for act in (release.create, lambda chart: release.update(chart_id=chart, values={"text": "new"})):
        assert act(chart_id).is_success
        release.settled()
    proxy.arm(
        Rule(action="freeze", verb="list", resource="secrets", agent="pilothouse Helm/*", namespace=release.namespace)
    )
    assert release.rollback(1).status_code == HTTPStatus.OK
    (held,) = wait_for(lambda: proxy.wait_held(5))
    command = [str(kubernetes.helm), "--kubeconfig", str(kubernetes.kubeconfig), "rollback", "web", "1"]
    command += ["-n", release.namespace, "--timeout", "25s"]
    theirs = subprocess.Popen(command, env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: "pending-rollback" in release.statuses())
        proxy.release(held, "pass")
        wait_for(lambda: attempts(release)[0] == "failed", seconds=20)
        assert attempts(release) == ("failed", 2, 0)
        assert theirs.poll() is None
        assert release.statuses() == ["superseded", "deployed", "pending-rollback"]
        _, said = theirs.communicate()
        assert b"not ready. status: InProgress" in said  # nobody has removed its pod
    finally:
        theirs.kill()
    shown = release.show().json()["status_description"]
    assert "Pilothouse (operation" not in shown, shown


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_of_the_account_while_it_writes_leaves_no_lock(
    status: int, release: OneRelease, proxy: FaultProxy, chart_id: str
):
    proxy.arm(Rule(action="freeze", verb="patch", resource="configmaps", namespace=release.namespace))
    release.update(chart_id=chart_id, values={"text": "new"})
    (held,) = wait_for(lambda: proxy.wait_held(5))
    proxy.arm(Rule(action="refuse", namespace=release.namespace, status=status, nth=0))
    proxy.release(held, "pass")
    wait_for(lambda: attempts(release)[0] == "failed")
    assert release.statuses() == ["deployed", "pending-upgrade"]
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        due = "UPDATE repairs SET due_at = clock_timestamp() WHERE namespace = %s RETURNING 1"
        assert connection.execute(due, [release.namespace]).fetchone(), "no repair is planned"
        # one that is refused like that is made again
        wait_for(lambda: "repair_postponed" in (release.server.data_dir.parent / "serve.log").read_text())
        proxy.clear()
        connection.execute(due, [release.namespace])
        wait_for(lambda: release.statuses() == ["deployed", "failed"])

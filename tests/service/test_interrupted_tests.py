"""Tests that are interrupted: whoever dies, they run again, and nothing of an interrupted run is left."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from lightkube import ApiError, Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap, Pod

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.interrupted_releases import SHORT_LEASES, Kill, Place, kill_children, kill_worker
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand, OneRelease
from tests.support.repairs import look_again
from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tools.localcluster.cluster import RunningCluster

#: Helm removes it only after all tests, and makes it anew only if it is gone.
EARLIER = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-earlier
  annotations: {helm.sh/hook: test, helm.sh/hook-weight: "-1", helm.sh/hook-delete-policy: hook-succeeded}
"""
TEST = """\
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-test
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: hook-succeeded
    pilothouse.dev/simulate: {{ .Values.fate }}
    pilothouse.dev/simulate-delay: {{ .Values.delay }}
spec: {restartPolicy: Never, containers: [{name: main, image: "busybox:1"}]}
"""
TEMPLATES = {
    "config.yaml": config_map_template(),
    "earlier.yaml": EARLIER,
    "test.yaml": TEST,
    "deletion.yaml": hook_job_template("pre-delete", suffix="deletion"),
}
#: Long enough to be killed meanwhile; the second run is as long.
SLOW = {"set": "fate=slow,delay=5s,text=new"}
ENDLESS = {"set": "fate=never-ready,text=new"}


@pytest.fixture(scope="module")
def server(kubeconfig: str) -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=SHORT_LEASES) as running:
        yield running


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    values = {"text": "old", "fate": "''", "delay": "1s"}
    answer = server.upload(build_chart("tested", templates=TEMPLATES, values=values))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def place(server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster) -> Iterator[Place]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield Place(OneRelease(server, namespace, "tried", helm_cli), api)


@pytest.fixture
def release(place: Place, helm_cli: HelmCommand) -> OwnRelease:
    return OwnRelease(place.one.server, place.one.namespace, place.one.name, helm_cli)


def uid(place: Place) -> str:
    """Return the uid of the test's pod; empty if there is none."""
    try:
        pod = place.api.get(Pod, "tried-test", namespace=place.one.namespace)
    except ApiError:
        return ""
    return str(pod.metadata.uid) if pod.metadata is not None else ""


def ended(release: OwnRelease, started: Any) -> dict[str, Any]:
    assert started.status_code == 202, started.text
    path = f"/api/v1/operations/{started.json()['id']}"
    living = {"queued", "running", "cancelling"}
    wait_for(lambda: release.server.send("GET", path).json()["state"] not in living, seconds=60)
    found: dict[str, Any] = release.server.send("GET", path).json()
    return found


def left(place: Place) -> list[str]:
    """Return the objects of the two tests that are there."""
    found = [str(one.metadata and one.metadata.name) for one in place.api.list(Pod, namespace=place.one.namespace)]
    return found + (["earlier"] if place.find(ConfigMap, "tried-earlier") is not None else [])


def runs(release: OwnRelease) -> dict[str, str]:
    stored = json.loads(release.helm("status", release.name, "-n", release.namespace, "-o", "json"))
    return {hook["name"]: hook["last_run"]["phase"] for hook in stored["hooks"]}


@pytest.mark.parametrize("kill", [kill_worker, kill_children], ids=["worker", "child"])
def test_tests_whose_runner_dies_run_again_and_no_hook_is_lost(
    place: Place, release: OwnRelease, chart: str, kill: Kill
):
    """Helm stores a revision without what a filter leaves out, for as long as the tests run."""
    release.deployed(chart, SLOW)
    filters = {"filters": ["!name=tried-earlier"]}
    started = release.send("POST", "/test", filters, wait=0)
    wait_for(lambda: uid(place))
    kill(place.one.server)
    assert set(runs(release)) == {"tried-earlier", "tried-test", "tried-deletion"}

    operation = ended(release, started)

    assert (operation["state"], operation["text"]) == ("succeeded", "1 of 1 tests passed"), operation
    assert place.operation()[1] == 2
    assert "hooks_removed" in place.events()
    assert runs(release) == {"tried-earlier": "", "tried-test": "Succeeded", "tried-deletion": ""}
    assert left(place) == []
    assert release.helm_history() == [(1, "deployed", "Install complete")]


@pytest.mark.parametrize("kill", [kill_worker, kill_children], ids=["worker", "child"])
def test_checks_whose_runner_dies_run_again_on_the_revision_that_is_there(
    place: Place, release: OwnRelease, chart: str, kill: Kill
):
    release.deployed(chart)
    body = {"chart": {"id": chart}, "values": [SLOW], "options": {"checks": ["test"]}}
    started = release.send("PUT", "", body, wait=0)
    wait_for(lambda: uid(place))
    kill(place.one.server)

    operation = ended(release, started)

    assert operation["state"] == "succeeded", operation
    assert operation["text"].endswith("; 2 of 2 tests passed")
    assert [status for _, status, _ in release.helm_history()] == ["superseded", "deployed"]
    assert place.text() == "new"
    assert left(place) == []


def _cancel(release: OwnRelease, started: Any) -> None:
    path = f"/api/v1/operations/{started.json()['id']}/cancel"
    assert release.server.send("POST", path).status_code == 200


def _cancel_and_kill(release: OwnRelease, started: Any) -> None:
    _cancel(release, started)
    kill_worker(release.server)


@pytest.mark.parametrize("stop", [_cancel, _cancel_and_kill], ids=["cancelled", "cancelled and killed"])
def test_a_cancelled_check_takes_the_upgrade_back_and_leaves_no_test(
    place: Place, release: OwnRelease, chart: str, stop: Callable[[OwnRelease, Any], None]
):
    release.deployed(chart)
    body = {"chart": {"id": chart}, "values": [ENDLESS], "options": {"checks": ["test"]}}
    started = release.send("PUT", "", body, wait=0)
    wait_for(lambda: uid(place))
    stop(release, started)

    operation = ended(release, started)

    assert (operation["state"], operation["text"]) == (
        "cancelled",
        "cancelled; rolled back to revision 1, as revision 3",
    )
    assert place.text() == "old"
    assert [status for _, status, _ in release.helm_history()] == ["superseded", "superseded", "deployed"]
    assert left(place) == []


def test_a_cancelled_check_of_what_is_kept_ends_as_cancelled(place: Place, release: OwnRelease, chart: str):
    """The tests were killed, so that nothing says that the install has succeeded."""
    body = {"chart": {"id": chart}, "values": [ENDLESS], "options": {"checks": ["test"]}}
    started = release.send("PUT", "", body, wait=0)
    wait_for(lambda: uid(place))
    path = f"/api/v1/operations/{started.json()['id']}/cancel"
    assert release.server.send("POST", path, json_body={"keep": True}).status_code == 200

    operation = ended(release, started)

    assert (operation["state"], operation["text"]) == (
        "cancelled",
        "cancelled; revision 1 stays deployed, though its tests have not passed",
    )
    assert [status for _, status, _ in release.helm_history()] == ["deployed"]
    assert left(place) == []


def test_tests_of_a_revision_that_is_no_longer_the_newest_are_stopped_when_their_runner_dies(
    place: Place, release: OwnRelease, chart: str, helm_cli: HelmCommand
):
    release.deployed(chart, ENDLESS)
    started = release.send("POST", "/test", {}, wait=0)
    wait_for(lambda: uid(place))
    helm_cli("rollback", "tried", "1", "-n", place.one.namespace)
    kill_worker(place.one.server)

    operation = ended(release, started)

    assert operation["state"] == "failed"
    assert operation["text"] == "revision 2 was written since, so that revision 1 was not tested"
    assert left(place) == []


@pytest.mark.parametrize(("checked", "text"), [(False, "late"), (True, "new")], ids=["test", "check"])
def test_what_tests_have_left_that_ended_out_of_sight_is_removed_later(
    place: Place, release: OwnRelease, chart: str, *, checked: bool, text: str
):
    """The cluster was away when they ended, which is said here of an operation that nobody works on any more.

    Tests write no object of the release, so that of theirs no other is looked at.
    """
    release.deployed(chart, ENDLESS)
    body = {"chart": {"id": chart}, "values": [ENDLESS], "options": {"checks": ["test"]}}
    started = release.send("PUT", "", body, wait=0) if checked else release.send("POST", "/test", {}, wait=0)
    wait_for(lambda: uid(place))
    with psycopg.connect(place.one.server.database_url, autocommit=True) as connection:
        ending = (
            "UPDATE operations SET state = 'failed', finished_at = clock_timestamp(), lease_until = NULL, worker = ''"
        )
        connection.execute(f"{ending} WHERE id = %s", [started.json()["id"]])
    kill_worker(place.one.server)
    place.write_late("late")
    look_again(place.one)
    wait_for(lambda: not left(place))
    assert place.text() == text


def test_a_cancelled_test_leaves_nothing_of_it(place: Place, release: OwnRelease, chart: str):
    release.deployed(chart, ENDLESS)
    started = release.send("POST", "/test", {}, wait=0)
    wait_for(lambda: uid(place))
    _cancel(release, started)
    assert ended(release, started)["state"] == "cancelled"
    assert left(place) == []
    assert release.helm_history() == [(1, "deployed", "Install complete")]


def test_checks_that_are_given_up_fail_the_operation_and_are_undone(place: Place, release: OwnRelease, chart: str):
    """At the deadline the engine is stopped while the test runs."""
    release.deployed(chart)
    options = {"checks": ["test"], "rollback_on_failure": True, "timeout_seconds": 8}
    body = {"chart": {"id": chart}, "values": [ENDLESS], "options": options}
    operation = ended(release, release.send("PUT", "", body, wait=0))
    assert operation["state"] == "failed", operation
    assert operation["text"].startswith("revision 2 is deployed, but its tests"), operation
    assert operation["text"].endswith("rolled back to revision 1, as revision 3")
    assert place.text() == "old"
    assert left(place) == []


def test_a_revision_that_another_program_writes_meanwhile_keeps_what_that_wrote(
    place: Place, release: OwnRelease, chart: str, helm_cli: HelmCommand
):
    """Helm would store the tested revision as deployed again, next to the new one."""
    release.deployed(chart, SLOW)
    started = release.send("POST", "/test", {}, wait=0)
    wait_for(lambda: uid(place))
    helm_cli("rollback", "tried", "1", "-n", place.one.namespace)
    operation = ended(release, started)
    assert operation["state"] == "failed"
    assert "was changed by another program while the tests ran; run them again" in operation["text"]
    assert [status for _, status, _ in release.helm_history()] == ["superseded", "deployed"]

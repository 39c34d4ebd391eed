"""Helm's own lock, left by a helm that died: nobody touches it unasked, and everybody is told what it is."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.charts import build_chart, config_map_chart, config_map_template, hook_job_template
from tests.support.helm import kill_helm
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

FORBIDDEN = (403, "CCE.01403001")
STALL = "    metadata: {annotations: {pilothouse.dev/simulate: never-ready}}\n    spec:\n      restartPolicy"

KilledHelm = Callable[..., None]


def stalling(event: str) -> bytes:
    """One ConfigMap, and a hook that never ends."""
    hook = hook_job_template(event).replace("    spec:\n      restartPolicy", STALL)
    return build_chart("locked", templates={"c.yaml": config_map_template(), "h.yaml": hook}, values={"text": "x"})


@pytest.fixture
def killed_helm(kubernetes: RunningCluster, tmp_path: Path, helm_cli: HelmCommand) -> KilledHelm:
    """Run a helm command until the release has the status that it leaves, and kill it then."""

    def run(*arguments: str, name: str, namespace: str, leaves: str) -> None:
        kill_helm(kubernetes, helm_cli, *arguments, name=name, namespace=namespace, leaves=leaves, home=tmp_path)

    return run


@pytest.fixture
def locked(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, killed_helm: KilledHelm, tmp_path: Path
) -> OneRelease:
    """Return a release of helm's, and a helm that was killed while it upgraded it."""
    first, second = tmp_path / "first.tgz", tmp_path / "second.tgz"
    first.write_bytes(config_map_chart("locked"))
    second.write_bytes(stalling("pre-upgrade"))
    helm_cli("install", "web", str(first), "-n", namespace)
    killed_helm("upgrade", "web", str(second), name="web", namespace=namespace, leaves="pending-upgrade")
    return OneRelease(server, namespace, "web", helm_cli)


@pytest.fixture(scope="module")
def chart_id(server: RunningServer) -> str:
    answer = server.upload(config_map_chart("locked", "2.0.0"), parameters='{"override": true}')
    return str(answer.json()["id"])


def unlock(one: OneRelease, **changes: str):
    body = {"namespace": one.namespace, "name": one.name, "reason": "its machine burnt down", **changes}
    return one.server.send("POST", f"/api/v1/clusters/{one.server.cluster_id}/unlock", json_body=body)


def test_a_lock_of_helms_is_respected_explained_and_ended_on_request(locked: OneRelease, chart_id: str):
    wait_for(lambda: locked.server.send("GET", locked.path).json()["status"] == "PENDING_UPGRADE")
    refused = [locked.update(chart_id=chart_id), locked.rollback(1), locked.delete()]
    for answer in refused:
        message = assert_error(answer, *FORBIDDEN)[:200]
        for word in ("Update release is forbidden", "revision 2 is pending-upgrade", "'Helm'", "since 20", "/unlock"):
            assert word in message
    assert locked.statuses() == ["deployed", "pending-upgrade"]

    assert_error(unlock(locked, reason=" "), 400, "CCE.01400001", "reason")
    answer = unlock(locked)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["was"], answer.json()["status"], answer.json()["revision"]) == (
        "pending-upgrade",
        "failed",
        2,
    )
    shown = locked.show().json()
    assert shown["status"] == "FAILED"
    assert "its machine burnt down" in shown["status_description"]
    assert locked.statuses() == ["deployed", "failed"]
    assert locked.update(chart_id=chart_id, values={"text": "after"}).status_code == 200
    assert locked.settled()["status"] == "DEPLOYED"
    assert locked.statuses() == ["superseded", "failed", "deployed"]
    assert_error(unlock(locked), 400, "CCE.01400001", "not locked")


def test_the_command_line_unlocks_too(locked: OneRelease):
    place = ["--cluster", locked.server.cluster_id, "--namespace", locked.namespace, "-o", "json"]
    done = locked.server.command("release", "unlock", "web", "--reason", "it hung", *place)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["status"] == "failed"
    again = locked.server.command("release", "unlock", "web", "--reason", "it hung", *place)
    assert (again.returncode, "not locked" in again.stderr) == (1, True)
    assert locked.delete().json()["status"] == "DELETING"
    locked.gone()


def test_the_command_line_tells_who_waits_that_another_client_is_at_work(locked: OneRelease):
    place = ["--cluster", locked.server.cluster_id, "-n", locked.namespace]
    flags = " ".join(place)
    wait_for(lambda: "LOCKED" in locked.server.command("status", "web", *place).stdout)
    begun = time.monotonic()
    for words in (["operation", "follow"], ["operation", "cancel"], ["wait"]):
        ended = locked.server.command(*words, "web", *place)
        assert ended.returncode == 1, words
        assert (
            "web is pending-upgrade, and no operation of this server is at work on it: another client" in ended.stderr
        )
        assert f"if it is dead: pilothouse release unlock web --reason TEXT {flags}" in ended.stderr, words
    refused = locked.server.command("rollback", "web", *place)
    assert f"pilothouse release unlock web -n {locked.namespace} --cluster {place[1]} --reason TEXT" in refused.stderr

    assert time.monotonic() - begun < 60
    assert locked.server.command("wait", "web", "--for", "pending-upgrade", *place).returncode == 0


def test_an_operation_that_has_ended_is_not_what_another_client_does_now(
    server: RunningServer, namespace: str, killed_helm: KilledHelm, tmp_path: Path
):
    first, second = tmp_path / "first.tgz", tmp_path / "second.tgz"
    first.write_bytes(config_map_chart(f"mine-{namespace}"))
    second.write_bytes(stalling("pre-upgrade"))
    place = ["-n", namespace, "--cluster", server.cluster_id]
    assert server.command("install", "mine", str(first), *place).returncode == 0
    assert server.command("operation", "follow", "mine", *place).returncode == 0
    killed_helm("upgrade", "mine", str(second), name="mine", namespace=namespace, leaves="pending-upgrade")
    wait_for(lambda: "LOCKED" in server.command("status", "mine", *place).stdout)

    followed = server.command("operation", "follow", "mine", *place)

    assert (followed.returncode, followed.stdout) == (1, "")
    assert "mine is pending-upgrade, and no operation of this server is at work on it" in followed.stderr
    assert "succeeded" in server.command("operation", "show", "mine", *place).stdout


def test_unlocking_what_is_not_there_is_not_found(server: RunningServer, namespace: str, helm_cli: HelmCommand):
    assert_error(unlock(OneRelease(server, namespace, "nobody", helm_cli)), 404, "CCE.01404001", "'nobody'")


def test_a_running_operation_cannot_be_unlocked(server: RunningServer, namespace: str, helm_cli: HelmCommand):
    chart = str(server.upload(stalling("post-install"), parameters='{"override": true}').json()["id"])
    one = OneRelease(server, namespace, "busy", helm_cli)
    assert one.create(chart).status_code == 201
    assert_error(unlock(one), *FORBIDDEN, "Update release is forbidden")
    one.delete()
    one.gone()


def test_a_release_whose_helm_died_while_deleting_it_is_deleted(
    server: RunningServer,
    namespace: str,
    helm_cli: HelmCommand,
    killed_helm: KilledHelm,
    tmp_path: Path,
    *,
    chart_id: str,
):
    archive = tmp_path / "chart.tgz"
    archive.write_bytes(stalling("post-delete"))
    helm_cli("install", "half", str(archive), "-n", namespace)
    killed_helm("uninstall", "half", name="half", namespace=namespace, leaves="uninstalling")
    one = OneRelease(server, namespace, "half", helm_cli)
    assert_error(one.update(chart_id=chart_id), *FORBIDDEN, "Update release is forbidden", "uninstalling")
    answer = one.delete()
    assert (answer.status_code, answer.json()["status"]) == (200, "DELETING")
    one.gone()
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []


def test_the_native_writes_respect_and_end_it_too(locked: OneRelease, chart_id: str):
    own = OwnRelease(locked.server, locked.namespace, locked.name, locked.helm)
    for answer in (own.put(chart_id), own.send("POST", "/rollback"), own.send("DELETE")):
        assert "revision 2 is pending-upgrade" in assert_error(answer, *FORBIDDEN)
    unlocked = own.send("POST", "/unlock", {"reason": "its machine burnt down"})
    assert unlocked.status_code == 200, unlocked.text
    assert (unlocked.json()["was"], unlocked.json()["status"]) == ("pending-upgrade", "failed")
    again = own.send("POST", "/unlock", {"reason": "its machine burnt down"})
    assert "is not locked: its revision 2 is failed" in assert_error(again, 400, "CCE.01400001")
    own.deployed(chart_id)

"""One cluster under two names: what is at work through one of them is no dead helm for the other."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error

NEVER = "    metadata: {annotations: {pilothouse.dev/simulate: never-ready}}\n    spec:\n      restartPolicy"
AT_WORK = (409, "CCE.01409006")


def register(server: RunningServer, name: str, kubeconfig: str) -> RunningServer:
    """Return the server with the cluster registered under that name, too."""
    made = server.send("POST", "/api/v1/clusters", json_body={"name": name, "kubeconfig": kubeconfig})
    assert made.status_code == 201, made.text
    there = dataclasses.replace(server, cluster_id=made.json()["id"])
    there.wait_until_listed(there.cluster_id)
    return there


@pytest.fixture
def again(server: RunningServer, kubeconfig: str) -> Iterator[RunningServer]:
    """Yield the server with the cluster under a second name of the same project."""
    there = register(server, "again", kubeconfig)
    yield there
    assert server.send("DELETE", f"/api/v1/clusters/{there.cluster_id}").status_code == 204


@pytest.fixture
def tenants(server: RunningServer, kubeconfig: str) -> Iterator[RunningServer]:
    """Yield the server as another project sees it, which has registered the same cluster."""
    there = register(add_tenant(server), "theirs", kubeconfig)
    yield there
    assert there.send("DELETE", f"/api/v1/clusters/{there.cluster_id}").status_code == 204


@pytest.fixture
def hanging(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> Iterator[tuple[OwnRelease, str]]:
    """Yield a release whose upgrade does not end, and the upgrade's id."""
    hook = hook_job_template("pre-upgrade").replace("    spec:\n      restartPolicy", NEVER)
    chart = build_chart("twice", templates={"c.yaml": config_map_template(), "h.yaml": hook}, values={"text": "x"})
    chart_id = str(server.upload(chart, parameters='{"override": true}').json()["id"])
    one = OwnRelease(server, namespace, "web", helm_cli)
    one.deployed(chart_id)
    accepted = one.send("PUT", "", {"chart": {"id": chart_id}, "values": []}, wait=0)
    assert accepted.status_code == 202, accepted.text
    operation = accepted.json()["id"]
    wait_for(lambda: "pending-upgrade" in [status for _, status, _ in one.helm_history()])
    yield one, operation
    server.send("POST", f"/api/v1/operations/{operation}/cancel")  # unless the test has
    wait_for(lambda: server.send("GET", f"/api/v1/operations/{operation}").json()["finished_at"] is not None)


def test_what_is_at_work_under_the_other_name_is_told_and_not_unlocked(
    hanging: tuple[OwnRelease, str], again: RunningServer
):
    one, operation = hanging
    two = dataclasses.replace(one, server=again)
    home = one.get()["cluster_name"]
    wait_for(lambda: two.get()["status"] == "pending-upgrade")

    found = two.get()
    assert found["operation"] is None
    told = {"operation_id": operation, "action": "upgrade", "state": "running", "cluster_name": home}
    assert found["elsewhere"] == told
    assert one.get()["elsewhere"] is None

    refused = two.send("POST", "/unlock", {"reason": "it looks dead"})
    message = assert_error(refused, *AT_WORK, operation)
    assert f"through cluster {home!r}" in message
    compatible = {"namespace": two.namespace, "name": two.name, "reason": "it looks dead"}
    at = f"/api/v1/clusters/{again.cluster_id}/unlock"
    assert_error(again.send("POST", at, json_body=compatible), *AT_WORK, operation)
    for write in (two.send("POST", "/rollback"), two.send("DELETE"), two.send("POST", "/test")):
        message = assert_error(write, 403, "CCE.01403001", "Update release is forbidden")
        assert "an operation of Pilothouse is at work on it through another registration" in message
        assert "unlock" not in message

    place = ["--cluster", again.cluster_id, "-n", two.namespace]
    status = again.command("status", "web", *place).stdout
    assert f"IN PROGRESS: upgrade running through cluster {home}, another registration" in status
    assert f"pilothouse operation follow {operation}" in status
    assert "LOCKED" not in status
    followed = again.command("operation", "follow", "web", *place)
    assert (followed.returncode, f"pilothouse operation follow {operation}" in followed.stderr) == (1, True)
    assert one.helm_history()[-1][1] == "pending-upgrade"


def test_another_project_is_told_that_something_is_at_work_and_no_more(
    hanging: tuple[OwnRelease, str], tenants: RunningServer
):
    one, operation = hanging
    two = dataclasses.replace(one, server=tenants)
    wait_for(lambda: two.get()["status"] == "pending-upgrade")

    assert set(two.get()["elsewhere"].values()) == {""}
    message = assert_error(two.send("POST", "/unlock", {"reason": "it looks dead"}), *AT_WORK)
    assert operation not in message
    assert "LOCKED" not in tenants.command("status", "web", "--cluster", tenants.cluster_id, "-n", two.namespace).stdout
    assert one.helm_history()[-1][1] == "pending-upgrade"


def test_who_waits_under_the_other_name_is_told_of_its_end(hanging: tuple[OwnRelease, str], again: RunningServer):
    one, operation = hanging
    two = dataclasses.replace(one, server=again)
    wait_for(lambda: two.get()["status"] == "pending-upgrade")
    assert again.send("POST", f"/api/v1/operations/{operation}/cancel").status_code == 200

    waited = again.command("wait", "web", "--timeout", "60s", "--cluster", again.cluster_id, "-n", two.namespace)

    assert "another client" not in waited.stderr
    assert two.get()["elsewhere"] is None or two.get()["status"] != "pending-upgrade"


def test_the_history_names_who_wrote_a_revision_through_the_other_name(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, again: RunningServer
):
    chart = build_chart("twice", "2.0.0", templates={"c.yaml": config_map_template()}, values={"text": "x"})
    chart_id = str(server.upload(chart, parameters='{"override": true}').json()["id"])
    one = OwnRelease(server, namespace, "web", helm_cli)
    two = dataclasses.replace(one, server=again)
    installed = one.deployed(chart_id)["id"]
    upgraded = one.deployed(chart_id, {"object": {"text": "y"}})["id"]
    rolled_back = one.ended(one.send("POST", "/rollback", {"revision": 1}))["id"]
    wait_for(lambda: two.get()["revision"] == 3)

    told = [(row["revision"], row["changed_by"] and row["changed_by"]["operation_id"]) for row in two.get("/history")]
    assert told == [(3, rolled_back), (2, upgraded), (1, installed)]
    shown = two.get()
    assert shown["changed_by"]["operation_id"] == rolled_back
    assert shown["operation"] is None
    helm_cli("rollback", "web", "2", "-n", namespace)
    wait_for(lambda: two.get()["revision"] == 4)
    assert two.get()["changed_by"] is None, "that was helm itself"


def test_of_another_projects_writes_nothing_is_told(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, tenants: RunningServer
):
    chart = build_chart("twice", "2.0.0", templates={"c.yaml": config_map_template()}, values={"text": "x"})
    one = OwnRelease(server, namespace, "web", helm_cli)
    one.deployed(str(server.upload(chart, parameters='{"override": true}').json()["id"]))
    two = dataclasses.replace(one, server=tenants)
    wait_for(lambda: tenants.send("GET", two.path).status_code == 200)

    assert [row["changed_by"] for row in two.get("/history")] == [None]
    assert two.get()["changed_by"] is None


def test_a_cluster_tells_under_what_other_names_it_is_registered(
    server: RunningServer, again: RunningServer, tenants: RunningServer, kubeconfig: str, tmp_path: Path
):
    home = server.send("GET", f"/api/v1/clusters/{server.cluster_id}").json()
    assert "again" in home["also_registered_as"]
    assert home["name"] not in home["also_registered_as"]
    there = again.send("GET", f"/api/v1/clusters/{again.cluster_id}").json()
    assert home["name"] in there["also_registered_as"]
    assert tenants.send("GET", f"/api/v1/clusters/{tenants.cluster_id}").json()["also_registered_as"] == []

    (tmp_path / "kubeconfig").write_text(kubeconfig)
    added = server.command("cluster", "add", "thrice", "--kubeconfig", str(tmp_path / "kubeconfig"), "-o", "json")
    assert added.returncode == 0, added.stderr
    assert server.send("DELETE", f"/api/v1/clusters/{json.loads(added.stdout)['id']}").status_code == 204
    assert "the same API server is registered as again" in added.stderr

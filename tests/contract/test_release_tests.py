"""Tests of a release in the native API: run as ``helm test`` runs them, with logs that outlive their pods."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import Pod

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.wire import assert_error
from tests.support.workloads import hook_template
from tools.localcluster.cluster import RunningCluster

INVALID, MISSING, FORBIDDEN = (400, "CCE.01400001"), (404, "CCE.01404001"), (403, "CCE.01403001")
GONE = "hook-succeeded,hook-failed"
#: What the local cluster's nodes serve as every container's log.
LOG_LINE = "simulated container: started"
#: A pod whose fate is a value, a Job, and hooks that no test of the release is.
TEMPLATES = {
    "config.yaml": config_map_template(),
    "first.yaml": hook_template("test", fate="'{{ .Values.fate }}'", policy=GONE, kind="Pod", name="first"),
    "second.yaml": hook_template("test", fate="''", name="second"),
    "deletion.yaml": hook_job_template("pre-delete", suffix="deletion"),
}
ARCHIVE = build_chart("tested", "1.0.0", templates=TEMPLATES, values={"text": "x", "fate": ""})
BOTH = [("web-first", "Succeeded"), ("web-second", "Succeeded")]


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    answer = server.upload(ARCHIVE, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OwnRelease:
    return OwnRelease(server, namespace, "web", helm_cli)


@pytest.fixture
def client(kubernetes: RunningCluster) -> Any:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield api


def run_tests(release: OwnRelease, *filters: str, **options: Any) -> httpx2.Response:
    return release.send("POST", "/test", {"filters": list(filters), "options": options})


def runs(release: OwnRelease) -> list[tuple[str, str]]:
    """Each hook's last run as helm has stored it, those that never ran left out."""
    stored = json.loads(release.helm("status", release.name, "-n", release.namespace, "-o", "json"))
    return sorted((hook["name"], phase) for hook in stored["hooks"] if (phase := hook["last_run"]["phase"]))


def evidence(release: OwnRelease, operation: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = release.server.send("GET", f"/api/v1/operations/{operation['id']}/evidence").json()
    return found


def told(release: OwnRelease, operation: dict[str, Any]) -> list[tuple[str, str]]:
    events = release.server.send("GET", f"/api/v1/operations/{operation['id']}/events").json()
    return [(one["name"], one["phase"]) for event in events if event["kind"] == "tests_run"
            for one in event["data"]["tests"]]  # fmt: skip


def logs(found: dict[str, Any]) -> dict[str, list[str]]:
    return {pod["owner"]: [line for one in pod["containers"] for line in one["log"]] for pod in found["pods"]}


def has_line(found: dict[str, Any], owner: str, line: str = LOG_LINE) -> bool:
    return any(line in one for one in logs(found)[owner])


def pods(client: Client, namespace: str) -> list[str]:
    """Return the pods of the tests; those of the other hook are left as Helm leaves them."""
    names = (str(one.metadata and one.metadata.name) for one in client.list(Pod, namespace=namespace))
    return sorted(name for name in names if "deletion" not in name)


def test_tests_that_pass_are_recorded_as_helm_records_them_and_their_logs_outlive_the_pods(
    *,
    release: OwnRelease,
    chart: str,
    client: Client,
    helm_cli: HelmCommand,
    make_namespace: Callable[[], str],
    tmp_path: Path,
):
    (tmp_path / "tested.tgz").write_bytes(ARCHIVE)
    theirs = OwnRelease(release.server, make_namespace(), "web", helm_cli)
    helm_cli("install", "web", str(tmp_path / "tested.tgz"), "-n", theirs.namespace)
    helm_cli("test", "web", "-n", theirs.namespace)
    release.deployed(chart)

    operation = release.ended(run_tests(release))

    assert (operation["action"], operation["revision"], operation["text"]) == ("test", 1, "2 of 2 tests passed")
    assert runs(release) == runs(theirs) == told(release, operation) == BOTH
    assert release.helm_history() == theirs.helm_history()
    (found,) = evidence(release, operation)
    assert (found["error"], found["missing"]) == ("", [])
    assert set(logs(found)) == {"Pod/web-first", "Job/web-second"}
    assert all(has_line(found, owner) for owner in logs(found))
    assert [name for name in pods(client, release.namespace) if "first" in name] == []
    # nothing of it is taken for a change of the release
    assert [one["changed_by"]["cause"] for one in release.get("/history")] == ["install"]
    shown = release.get()
    assert (shown["status"], shown["operation"], shown["changed_by"]["cause"]) == ("deployed", None, "install")


def test_a_test_that_fails_is_a_failed_operation_with_its_logs_and_the_release_is_as_it_was(
    release: OwnRelease, chart: str, client: Client
):
    release.deployed(chart, {"set": "fate=fail,password=simulated container"})

    operation = release.ended(run_tests(release), "failed")

    assert "web-first" in operation["text"]
    assert told(release, operation) == runs(release) == [("web-first", "Failed")]
    (found,) = evidence(release, operation)
    assert found["error"] == operation["text"]
    # a value of the release, masked as in every evidence
    assert has_line(found, "Pod/web-first", "***: started")
    (pod,) = [pod for pod in found["pods"] if pod["name"] == "web-first"]
    assert (pod["hook"], pod["phase"]) == (True, "Failed")
    assert pods(client, release.namespace) == []
    assert release.get()["status"] == "deployed"
    [listed] = release.server.send("GET", f"/api/v1/releases?namespace={release.namespace}").json()
    assert (listed["status"], listed["operation_id"]) == ("deployed", "")
    vendors = f"/cce/cam/v3/clusters/{release.server.cluster_id}/namespace/{release.namespace}/releases/web"
    assert release.server.send("GET", vendors).json()["status"] == "DEPLOYED"


@pytest.mark.parametrize(
    ("filters", "ran"),
    [
        (["name=web-second"], ["web-second"]),
        (["!name=web-second"], ["web-first"]),
        (["! name=web-first"], ["web-second"]),
        (["name=web-first", "name=web-second"], ["web-first", "web-second"]),
        (["name=web-first", "!name=web-first"], []),
    ],
)
def test_filters_choose_as_helms_do_and_no_hook_is_lost(
    release: OwnRelease, chart: str, filters: list[str], ran: list[str]
):
    release.deployed(chart)
    before = {hook["name"] for hook in release.get("/hooks")["hooks"]}

    operation = release.ended(run_tests(release, *filters))

    assert [name for name, _ in told(release, operation)] == ran
    assert [name for name, _ in runs(release)] == ran
    assert {hook["name"] for hook in release.get("/hooks")["hooks"]} == before
    assert release.helm("get", "hooks", "web", "-n", release.namespace).count("# Source:") == len(before) == 3


def test_what_cannot_be_tested_is_refused_with_the_reason(release: OwnRelease, chart: str):
    assert_error(run_tests(release), *MISSING, "release 'web' does not exist in namespace")
    release.deployed(chart)
    assert_error(run_tests(release, "web-first"), *INVALID, "filters[0]: 'web-first' is neither name=TEST nor")
    refused = assert_error(run_tests(release, "name=web-frist"), *INVALID, "has no test 'web-frist'")
    assert "its tests are web-first, web-second" in refused
    assert_error(run_tests(release, "!name=web-deletion"), *INVALID, "has no test 'web-deletion'")
    assert_error(
        release.send("POST", "/test", {"filter": []}), *INVALID, "filter: unknown field; did you mean filters?"
    )
    release.ended(release.send("DELETE", "", {"options": {"keep_history": True}}))
    assert_error(run_tests(release), *INVALID, "is uninstalled and only its history is left")


def test_a_release_without_tests_says_so(release: OwnRelease):
    archive = build_chart("untested", templates={"config.yaml": config_map_template()}, values={"text": "x"})
    answer = release.server.upload(archive, parameters='{"override": true}')
    release.deployed(str(answer.json()["id"]))
    operation = release.ended(run_tests(release))
    assert operation["text"] == "the release has no tests"
    assert evidence(release, operation) == []


def test_while_tests_run_the_release_is_shown_as_it_is_and_not_changed(release: OwnRelease, chart: str):
    release.deployed(chart, {"set": "fate=never-ready"})
    started = release.send("POST", "/test", {}, wait=0)
    assert started.status_code == 202, started.text
    wait_for(lambda: release.get()["operation"]["state"] == "running")
    shown = release.get()
    assert (shown["status"], shown["operation"]["action"]) == ("deployed", "test")
    [listed] = release.server.send("GET", f"/api/v1/releases?namespace={release.namespace}").json()
    assert (listed["status"], listed["operation_id"]) == ("deployed", started.json()["id"])
    assert_error(release.put(chart), *FORBIDDEN, "a test of release 'web' is running")
    assert_error(release.send("DELETE"), *FORBIDDEN, "a test of release 'web' is running")

    path = f"/api/v1/operations/{started.json()['id']}"
    assert release.server.send("POST", f"{path}/cancel").status_code == 200
    ended = wait_for(lambda: (row := release.server.send("GET", path).json())["state"] == "cancelled" and row)
    assert ended["text"] == "cancelled; the release is as it was"
    assert release.deployed(chart)["revision"] == 2


def test_at_its_deadline_a_test_fails_with_what_it_said(release: OwnRelease, chart: str, client: Client):
    release.deployed(chart, {"set": "fate=never-ready"})
    operation = release.ended(run_tests(release, "name=web-first", timeout_seconds=4), "failed")
    (found,) = evidence(release, operation)
    assert has_line(found, "Pod/web-first")
    wait_for(lambda: pods(client, release.namespace) == [])


def test_checks_are_the_last_part_of_an_install_an_upgrade_and_a_rollback(release: OwnRelease, chart: str):
    checked: dict[str, Any] = {"checks": ["test"]}
    answers = (
        release.put(chart, **checked),
        release.put(chart, {"set": "text=y"}, **checked),
        release.send("POST", "/rollback", {"options": checked}),
    )
    for revision, answer in enumerate(answers, start=1):
        operation = release.ended(answer)
        assert operation["revision"] == revision
        assert operation["text"].endswith("; 2 of 2 tests passed")
        assert told(release, operation) == BOTH
        assert len(evidence(release, operation)) == 1
    assert runs(release) == BOTH
    assert_error(release.put(chart, checks=["tests"]), *INVALID, "options.checks.0: must be 'test'")


def test_a_failed_check_fails_the_upgrade_whose_revision_stays_deployed(release: OwnRelease, chart: str):
    release.deployed(chart)
    operation = release.ended(release.put(chart, {"set": "fate=fail"}, checks=["test"]), "failed")
    assert operation["text"].startswith("revision 2 is deployed, but its tests failed: ")
    assert [status for _, status, _ in release.helm_history()] == ["superseded", "deployed"]
    assert release.get()["status"] == "deployed"
    (found,) = evidence(release, operation)
    assert has_line(found, "Pod/web-first")


def test_with_rollback_on_failure_a_failed_check_is_undone(release: OwnRelease, chart: str, client: Client):
    failing: dict[str, Any] = {"checks": ["test"], "rollback_on_failure": True}
    installed = release.ended(release.put(chart, {"set": "fate=fail"}, **failing), "failed")
    assert "but its tests failed" in installed["text"]
    assert installed["text"].endswith("uninstalled")
    assert release.helm("list", "-q", "-n", release.namespace) == ""
    assert pods(client, release.namespace) == []
    release.deployed(chart)

    upgraded = release.ended(release.put(chart, {"set": "fate=fail,text=new"}, **failing), "failed")

    assert upgraded["text"].endswith("rolled back to revision 1, as revision 3")
    assert [status for _, status, _ in release.helm_history()] == ["superseded", "superseded", "deployed"]
    assert release.helm_values() in ({}, None)
    assert has_line(evidence(release, upgraded)[0], "Pod/web-first")


def test_a_planned_check_runs_when_the_plan_is_applied(release: OwnRelease, chart: str):
    body = {"deploy": {"chart": {"id": chart}, "options": {"checks": ["test"], "no_hooks": True}}}
    plan = release.send("POST", "/plan", body).json()
    assert [hook["name"] for hook in plan["hooks"]] == ["web-first", "web-second"]
    path = f"/api/v1/plans/{plan['id']}/apply"
    applied = release.server.send("POST", path, json_body={"digest": plan["digest"]}, headers={"Prefer": "wait=60"})
    assert release.ended(applied)["text"].endswith("2 of 2 tests passed")


def test_a_repeat_with_the_same_key_runs_the_tests_once(release: OwnRelease, chart: str):
    release.deployed(chart)
    answers = [release.send("POST", "/test", {}, Idempotency_Key=f"k-{release.namespace}") for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[1].headers["x-pilothouse-repeated"] == "true"
    other = release.send("POST", "/test", {"filters": ["name=web-first"]}, Idempotency_Key=f"k-{release.namespace}")
    assert other.status_code == 422

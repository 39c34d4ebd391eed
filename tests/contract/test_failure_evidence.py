"""What a failed operation tells when its pods are gone, and how operations end at their deadline."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx2
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from tests.support.charts import build_chart, config_map_template
from tests.support.forwarder import forward
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.workloads import cannot_pull, deployment_template, hook_template, patch_pod
from tools.localcluster.cluster import RunningCluster

#: What the local cluster's nodes serve as every container's log.
LOG_LINE = "simulated container: started"
SECRET_TEMPLATE = """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-own"}
stringData: {password: "made-by-the-chart"}
---
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-of-hook", annotations: {helm.sh/hook: pre-install}}
data: {password: {{ "made-by-a-hook" | b64enc }}}
"""
#: Values, the release's own Secret, and one that a hook makes.
SECRETS = ("planted-by-us", "made-by-the-chart", "made-by-a-hook")


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "told", helm_cli)


@pytest.fixture(scope="module")
def direct(kubernetes: RunningCluster) -> Iterator[Client]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield api


@pytest.fixture(scope="module", autouse=True)
def _working(server: RunningServer, make_namespace: Callable[[], str]) -> None:
    """Wait until the worker works: a deadline of seconds begins when an operation is accepted."""
    namespace = make_namespace()
    server.create(chart_id=upload(server, config=config_map_template()), namespace=namespace, name="first")
    assert server.wait_until_final(namespace, "first")["status"] == "DEPLOYED"


def upload(server: RunningServer, **templates: str) -> str:
    named = {f"{name}.yaml": text for name, text in templates.items()}
    archive = build_chart("telling", templates=named, values={"text": "x"})
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def events_of(server: RunningServer, answer: httpx2.Response) -> list[str]:
    """Return what was told of the operation so far."""
    path = f"/api/v1/operations/{answer.headers['x-operation-id']}/events"
    return [event["text"] for event in server.send("GET", path).json()]


def carried_out(server: RunningServer, answer: httpx2.Response) -> dict[str, Any]:
    """Return the operation that a write began, once it has ended, with its evidence."""
    assert answer.status_code in (200, 201), answer.text
    path = f"/api/v1/operations/{answer.headers['x-operation-id']}"
    server.send("GET", f"{path}/events", headers={"Accept": "text/event-stream"})  # ends with the operation
    operation: dict[str, Any] = server.send("GET", path).json()
    operation["evidence"] = server.send("GET", f"{path}/evidence").json()
    return operation


def test_a_failed_hook_tells_its_last_lines_though_helm_has_deleted_it(release: OneRelease):
    hook = hook_template("pre-install", fate="fail", policy="hook-failed")
    chart = upload(release.server, hook=hook, config=config_map_template())
    ended = carried_out(release.server, release.create(chart))
    assert ended["state"] == "failed"
    (found,) = ended["evidence"]
    assert found["error"] == ended["text"] == release.show().json()["status_description"]
    (blocking,) = found["blocking"]
    assert (blocking["kind"], blocking["name"], blocking["status"]) == ("Job", "told-hook", "Failed")
    (pod,) = found["pods"]
    assert (pod["owner"], pod["hook"], pod["phase"]) == ("Job/told-hook", True, "Failed")
    assert "container main: ended with exit code 1" in pod["trouble"]
    (container,) = pod["containers"]
    assert any(LOG_LINE in line for line in container["log"]), found
    assert found["missing"] == []
    reasons = {(event["object"].partition("/")[0], event["reason"]) for event in found["events"]}
    assert {("Pod", "Scheduled"), ("Job", "BackoffLimitExceeded")} <= reasons
    shown = release.server.command("operation", "show", ended["id"])
    assert LOG_LINE in shown.stdout
    as_json = json.loads(release.server.command("operation", "show", ended["id"], "-o", "json").stdout)
    assert as_json["evidence"] == ended["evidence"]


def test_a_bare_pod_that_fails_after_a_while_and_is_deleted_at_once_tells_its_last_lines(
    release: OneRelease, direct: Client
):
    hook = hook_template("pre-install", fate="never-ready", policy="hook-failed", kind="Pod")
    answer = release.create(upload(release.server, hook=hook))
    wait_for(lambda: [text for text in events_of(release.server, answer) if "running hook Pod told-hook" in text])
    state = {"terminated": {"exitCode": 7, "reason": "Error"}}
    patch_pod(direct, release.namespace, "told-hook", phase="Failed", state=state)
    (found,) = carried_out(release.server, answer)["evidence"]
    (pod,) = found["pods"]
    assert pod["trouble"] == "container main: ended with exit code 7 (Error)"
    assert any(LOG_LINE in line for line in pod["containers"][0]["log"]), found


def test_a_release_that_never_gets_ready_tells_which_pods_block_it_and_nothing_secret(
    release: OneRelease, direct: Client
):
    chart = upload(
        release.server,
        nowhere=deployment_template("nowhere", replicas=2, selector="{room: none}"),
        pulling=deployment_template("pulling", fate="never-ready"),
        crashing=deployment_template("crashing", fate="fail"),
        well=deployment_template("well"),
        secret=SECRET_TEMPLATE,
    )
    values = {"registryPassword": "planted-by-us"}
    body = {"chart_id": chart, "namespace": release.namespace, "name": release.name, "values": values}
    path = f"/cce/cam/v3/clusters/{release.server.cluster_id}/releases"
    headers = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "8"}
    answer = release.server.send("POST", path, json_body=body, headers=headers)
    assert answer.status_code == 201, answer.text
    cannot_pull(direct, release.namespace, "told-pulling", said=f"refused: {' '.join(SECRETS)}")
    ended = carried_out(release.server, answer)
    assert ended["state"] == "failed"
    (found,) = ended["evidence"]
    assert {one["name"] for one in found["blocking"]} == {"told-nowhere", "told-pulling", "told-crashing"}
    states = {one["name"]: one["state"] for one in found["objects"]}
    none = "0 of 1 ready"
    assert states == {"told-nowhere": "0 of 2 ready", "told-pulling": none, "told-crashing": none}
    troubles = {pod["owner"]: pod["trouble"] for pod in found["pods"]}
    assert "Unschedulable: 0/" in troubles["Deployment/told-nowhere"]
    assert "container main: ImagePullBackOff: refused: *** *** ***" in troubles["Deployment/told-pulling"]
    (crashing,) = [pod for pod in found["pods"] if pod["owner"] == "Deployment/told-crashing"]
    assert crashing["trouble"].startswith(
        "container main: CrashLoopBackOff: simulated as failing; before that ended with"
    )
    assert any(LOG_LINE in line for line in crashing["containers"][0]["log"]), found
    told = {event["reason"]: event["text"] for event in found["events"]}
    assert {"FailedScheduling", "SuccessfulCreate", "ScalingReplicaSet"} <= told.keys()
    assert told["Failed"] == "refused: *** *** ***"
    assert not any("told-well" in event["object"] for event in found["events"])
    assert not [secret for secret in SECRETS if secret in json.dumps(ended)]
    texts = events_of(release.server, answer)
    waits = [text for text in texts if text.startswith("waiting for Deployment told-crashing: 0 of 1 ready, pod ")]
    assert any("CrashLoopBackOff" in text for text in waits), texts


def test_conflicts_are_told_as_data(release: OneRelease, direct: Client):
    chart = upload(release.server, config=config_map_template())
    release.create(chart)
    release.settled()
    other = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"text": "of another"}}
    direct.patch(
        ConfigMap,
        "told-config",
        other,
        namespace=release.namespace,
        patch_type=PatchType.APPLY,
        field_manager="other-tool",
        force=True,
    )
    ended = carried_out(release.server, release.update(chart_id=chart, values={"text": "y"}))
    (found,) = ended["evidence"]
    assert found["conflicts"] == [
        {
            "kind": "ConfigMap",
            "namespace": release.namespace,
            "name": "told-config",
            "field": ".data.text",
            "manager": "other-tool",
        }
    ]
    shown = release.server.command("operation", "show", ended["id"])
    assert f".data.text of ConfigMap {release.namespace}/told-config is held by other-tool" in shown.stdout


def test_evidence_holds_nothing_of_the_operation_before(release: OneRelease):
    chart = upload(
        release.server,
        hook=hook_template("pre-upgrade", fate="'{{ .Values.fate }}'"),
        web=deployment_template("web", fate="'{{ .Values.pods }}'"),
    )
    release.create(chart, parameters={"include_hooks": True}, values={"fate": "", "pods": ""})
    assert release.settled()["status"] == "DEPLOYED"
    hooks = {"include_hooks": True}
    failed = carried_out(
        release.server, release.update(chart_id=chart, parameters=hooks, values={"fate": "fail", "pods": ""})
    )
    assert "BackoffLimitExceeded" in {event["reason"] for event in failed["evidence"][0]["events"]}
    until = int(datetime.fromisoformat(failed["finished_at"]).timestamp()) + 2
    wait_for(lambda: time.time() >= until)  # Kubernetes tells times in whole seconds

    waiting = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "10"}
    values = {"fate": "", "pods": "never-ready"}
    ended = carried_out(
        release.server, release.update(chart_id=chart, parameters=hooks, values=values, headers=waiting)
    )

    (found,) = ended["evidence"]
    assert ended["state"] == "failed"
    assert [one["name"] for one in found["objects"]] == ["told-web"]
    events = [(event["at"][:19], event["object"], event["reason"], event["text"]) for event in found["events"]]
    assert "ScalingReplicaSet" in {reason for _, _, reason, _ in events}
    assert not [one for one in events if one[0] < ended["created_at"][:19]], events
    assert "BackoffLimitExceeded" not in {reason for _, _, reason, _ in events}
    assert len(events) == len(set(events))


def test_every_action_ends_failed_at_its_deadline_with_the_hook_that_did_not_end(release: OneRelease):
    events = {"upgrade": "pre-upgrade", "rollback": "pre-rollback", "uninstall": "pre-delete"}
    hooks = {action: hook_template(event, name=event, fate="never-ready") for action, event in events.items()}
    chart = upload(release.server, config=config_map_template(), **hooks)
    release.create(chart, parameters={"include_hooks": True})
    assert release.settled()["status"] == "DEPLOYED"
    limit = {"X-Pilothouse-Timeout": "3"}
    with_hooks = {"include_hooks": True}
    writes: dict[str, Callable[[], httpx2.Response]] = {
        "upgrade": lambda: release.update(chart_id=chart, parameters=with_hooks, headers=limit),
        "rollback": lambda: release.update(
            action="rollback", chart_id="", parameters={"release_version": 1, **with_hooks}, headers=limit
        ),
        "uninstall": lambda: release.server.send("DELETE", release.path, headers=limit),
    }
    for action, write in writes.items():
        answer = write()
        ended = carried_out(release.server, answer)
        assert (ended["action"], ended["state"], ended["timeout_seconds"]) == (action, "failed", 3)
        (found,) = ended["evidence"]
        hook = f"told-{events[action]}"
        (pod,) = [one for one in found["pods"] if one["owner"] == f"Job/{hook}"]
        assert (pod["hook"], pod["trouble"]) == (True, "ContainersNotReady: simulated as never-ready")
        assert any(LOG_LINE in line for line in pod["containers"][0]["log"]), found
        states = {one["name"]: one["state"] for one in found["objects"] if one["hook"]}
        assert states[hook] == "0 of 1 completed"
    assert not [status for status in release.statuses() if status.startswith("pending") or status == "uninstalling"]


def test_a_cluster_that_goes_silent_holds_nothing_back_and_what_was_seen_before_is_kept(
    server: RunningServer, kubeconfig: str, namespace: str, helm_cli: HelmCommand
):
    forwarder, text = forward(kubeconfig)
    added = server.send("POST", "/api/v1/clusters", json_body={"name": "silent", "kubeconfig": text}).json()
    release = OneRelease(replace(server, cluster_id=added["id"]), namespace, "told", helm_cli)
    try:
        chart = upload(server, hook=hook_template("pre-install", fate="never-ready"))
        path = f"/cce/cam/v3/clusters/{added['id']}/releases"
        body = {"chart_id": chart, "namespace": namespace, "name": "told", "values": {}}
        answer = server.send("POST", path, json_body=body, headers={"X-Pilothouse-Timeout": "6"})
        wait_for(lambda: [one for one in events_of(server, answer) if "running hook Job told-hook: 0 of 1" in one])
        forwarder.hang()
        ended = carried_out(server, answer)
        assert ended["state"] == "failed"
        assert ended["text"].startswith("timed out after 6 s")
        first, last = ended["evidence"]
        assert first["pods"][0]["owner"] == "Job/told-hook"
        assert any(LOG_LINE in line for line in first["pods"][0]["containers"][0]["log"])
        for found in (first, last):
            (missing,) = found["missing"]
            assert "did not answer within 5 s" in missing
    finally:
        forwarder.stop()
        server.send("DELETE", f"/api/v1/clusters/{added['id']}")
    assert release.show().status_code == 404

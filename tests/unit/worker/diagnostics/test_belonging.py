"""Of what the cluster keeps, evidence takes what belongs to the operation, and nothing of earlier ones."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from pilothouse.engine.tested import RunTestsOutcome
from pilothouse.errors import HelmError
from pilothouse.redaction import Masks
from pilothouse.worker.diagnostics.belonging import began_at, is_done, is_own_event, pod_state, pods_of_job
from pilothouse.worker.diagnostics.found import Found

BEGAN = datetime(2026, 11, 30, 16, 13, 11, 400_000, tzinfo=UTC)
SINCE = began_at(BEGAN, ahead=timedelta())


def event(at: str, *, uid: str = "", key: str = "lastTimestamp", node: str = "") -> dict[str, Any]:
    about = {"kind": "Job", "name": "web-migrate", "uid": uid}
    source = {"component": "kubelet", "host": node} if node else {"component": "job-controller"}
    return {"involvedObject": about, "reason": "Failed", "source": source, key: at}


def pod(created: str, *, owner: str = "", **status: Any) -> dict[str, Any]:
    owners = [{"kind": "Job", "name": "web-migrate", "uid": owner}] if owner else []
    metadata = {"namespace": "shop", "name": f"p-{created}", "creationTimestamp": created, "ownerReferences": owners}
    return {"kind": "Pod", "metadata": metadata, "status": status}


@pytest.mark.parametrize("key", ["lastTimestamp", "eventTime", "firstTimestamp"])
def test_events_of_before_the_operation_are_of_others(key: str):
    assert not is_own_event(event("2026-11-30T16:12:48Z", key=key), since=SINCE, uid="")
    assert not is_own_event(event("2026-11-30T16:13:10Z", key=key), since=SINCE, uid="")
    assert is_own_event(event("2026-11-30T16:13:11Z", key=key), since=SINCE, uid="")  # told in whole seconds
    assert is_own_event(event("", key=key), since=SINCE, uid="")  # nobody knows


def test_a_nodes_clock_may_be_behind_that_of_its_cluster():
    assert is_own_event(event("2026-11-30T16:13:07Z", node="a"), since=SINCE, uid="")
    assert not is_own_event(event("2026-11-30T16:13:05Z", node="a"), since=SINCE, uid="")


def test_events_of_another_object_of_the_same_name_are_of_others():
    assert not is_own_event(event("2026-11-30T16:13:12Z", uid="first"), since=SINCE, uid="second")
    assert is_own_event(event("2026-11-30T16:13:12Z", uid="second"), since=SINCE, uid="second")
    assert is_own_event(event("2026-11-30T16:13:12Z"), since=SINCE, uid="second")


def test_the_clusters_clock_counts_and_one_that_is_not_known_may_be_behind():
    assert began_at(BEGAN, ahead=timedelta(hours=-1)) == datetime(2026, 11, 30, 15, 13, 11, tzinfo=UTC)
    assert BEGAN - began_at(BEGAN, ahead=None) == timedelta(seconds=60)


def test_pods_of_an_earlier_job_of_the_same_name_are_of_others():
    early, late = pod("2026-11-30T16:12:48Z", owner="first"), pod("2026-11-30T16:13:12Z", owner="second")
    job = {"kind": "Job", "metadata": {"uid": "second"}}
    assert pods_of_job([early, late], job, since=SINCE) == [late]
    assert pods_of_job([early, late], None, since=SINCE) == [late]


def test_a_pod_of_an_earlier_hook_is_left_out_and_one_of_a_workload_is_not():
    found = Found([Masks([])])
    for created, hook in (
        ("2026-11-30T16:12:48Z", True),
        ("2026-11-30T16:13:12Z", True),
        ("2026-11-30T15:00:00Z", False),
    ):
        found.add_pod("Job/web-migrate", pod(created, phase="Failed"), hook=hook)
    found.leave_out_hooks_before(SINCE)
    left = {one["name"] for one in orjson.loads(found.put_together("x"))["pods"]}
    assert left == {"p-2026-11-30T16:13:12Z", "p-2026-11-30T15:00:00Z"}


def test_each_event_and_what_was_waited_for_is_told_once():
    found = Found([Masks([])])
    found.events = [
        {"at": "1", "reason": "Scheduled"},
        {"at": "2", "reason": "Pulled"},
        {"at": "1", "reason": "Scheduled"},
    ]
    said = "resource Pod/shop/tt-test not ready. status: Failed, message: pod failed"
    told = orjson.loads(found.put_together(f"1 error occurred: {said}\n{said}"))
    assert [one["reason"] for one in told["events"]] == ["Scheduled", "Pulled"]
    assert len(told["blocking"]) == 1


def test_a_hook_that_has_completed_is_no_evidence():
    job = {"kind": "Job", "spec": {"completions": 1}, "status": {"succeeded": 1}}
    assert is_done(job, hook=True)
    assert not is_done({**job, "status": {}}, hook=True)
    running = pod("", phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    assert not is_done(running, hook=True)
    assert is_done(running, hook=False)
    assert is_done(pod("", phase="Succeeded"), hook=True)


def test_a_pod_that_is_a_hook_has_a_state():
    ended = {"name": "main", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}
    assert (
        pod_state(pod("", phase="Failed", containerStatuses=[ended]))
        == "container main: ended with exit code 1 (Error)"
    )
    assert pod_state(pod("", phase="Succeeded")) == "Succeeded"
    assert pod_state({"kind": "ConfigMap"}) == ""


def test_a_failed_test_says_why_once():
    said = "resource Pod/shop/tt-test not ready. status: Failed, message: pod failed"
    outcome = RunTestsOutcome(failure=f"{said}\n{said}", failure_kind="HelmReleaseError", tests=[], pods=())
    with pytest.raises(HelmError) as told:
        outcome.raise_failure()
    assert str(told.value) == said

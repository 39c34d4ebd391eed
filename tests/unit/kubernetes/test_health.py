from typing import Any

import pytest

from pilothouse.kubernetes.health import Health, health_of


def with_condition(kind: str, status: str, **more: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, **more}]}


READY = {"observedGeneration": 1, "readyReplicas": 1, "updatedReplicas": 1}


@pytest.mark.parametrize(
    ("kind", "spec", "status", "expected"),
    [
        ("Deployment", {"replicas": 1}, READY, Health.HEALTHY),
        ("Deployment", {"replicas": 0}, {"observedGeneration": 1}, Health.HEALTHY),
        ("Deployment", {"replicas": 2}, READY, Health.PROGRESSING),
        ("Deployment", {"replicas": 1}, READY | {"updatedReplicas": 0}, Health.PROGRESSING),
        ("Deployment", {"replicas": 2}, READY | {"replicas": 3, "readyReplicas": 2}, Health.PROGRESSING),
        ("Deployment", {"replicas": 1}, READY | {"replicas": 2, "readyReplicas": 2}, Health.PROGRESSING),
        ("Deployment", {"replicas": 1, "paused": True}, READY, Health.SUSPENDED),
        ("Deployment", {"replicas": 1}, {}, Health.PROGRESSING),
        (
            "Deployment",
            {"replicas": 1},
            with_condition("Progressing", "False", reason="ProgressDeadlineExceeded"),
            Health.DEGRADED,
        ),
        ("ReplicaSet", {"replicas": 1}, with_condition("ReplicaFailure", "True"), Health.DEGRADED),
        ("DaemonSet", {}, {"observedGeneration": 1, "numberReady": 1, "desiredNumberScheduled": 2}, Health.PROGRESSING),
        ("Job", {}, with_condition("Complete", "True"), Health.HEALTHY),
        ("Job", {}, with_condition("Failed", "True"), Health.DEGRADED),
        ("Job", {"suspend": True}, {}, Health.SUSPENDED),
        ("CronJob", {"suspend": True}, {}, Health.SUSPENDED),
        ("Pod", {}, {"phase": "Succeeded"}, Health.HEALTHY),
        ("Pod", {}, {"phase": "Failed"}, Health.DEGRADED),
        ("Pod", {}, {"phase": "Pending"}, Health.PROGRESSING),
        (
            "Pod",
            {},
            {"containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            Health.DEGRADED,
        ),
        ("PersistentVolumeClaim", {}, {"phase": "Bound"}, Health.HEALTHY),
        ("PersistentVolumeClaim", {}, {"phase": "Lost"}, Health.DEGRADED),
        ("Service", {"type": "LoadBalancer"}, {}, Health.PROGRESSING),
        ("Service", {}, {}, Health.HEALTHY),
        ("HorizontalPodAutoscaler", {}, with_condition("AbleToScale", "False"), Health.DEGRADED),
        ("Namespace", {}, {"phase": "Terminating"}, Health.TERMINATING),
        ("Widget", {}, with_condition("Ready", "False"), Health.PROGRESSING),
        ("Widget", {}, with_condition("Stalled", "True"), Health.DEGRADED),
        ("Widget", {}, with_condition("Ready", "True"), Health.HEALTHY),
        ("Widget", {}, {}, Health.HEALTHY),
    ],
)
def test_the_health_of_an_object(kind: str, spec: dict[str, Any], status: dict[str, Any], expected: Health):
    found, message = health_of({"kind": kind, "metadata": {"generation": 1}, "spec": spec, "status": status})
    assert found == expected
    assert found == Health.HEALTHY or expected == Health.DEGRADED or message


def test_what_is_being_deleted_or_not_yet_taken_up_is_said_first():
    status = with_condition("Ready", "True") | {"observedGeneration": 1}
    assert health_of({"metadata": {"generation": 2}, "status": status})[0] == Health.PROGRESSING
    assert health_of({"metadata": {"deletionTimestamp": "now"}, "status": status})[0] == Health.TERMINATING


@pytest.mark.parametrize("status", [None, [], 7, {"conditions": 7}, {"conditions": [None, {"type": []}]}])
@pytest.mark.parametrize("kind", ["Deployment", "Pod", "Job", "Service", "HorizontalPodAutoscaler", None, []])
def test_a_status_may_hold_anything(kind: Any, status: Any):
    assert health_of({"kind": kind, "metadata": [], "spec": status, "status": status})[0] in Health

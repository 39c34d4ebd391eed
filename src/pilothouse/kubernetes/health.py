"""Health of live objects, in one word and the words of their status. Pure functions; a status may contain anything.

For kinds without rules of their own, those of the ``kstatus`` library: generations, and the conditions ``Stalled``,
``Reconciling``, ``Ready`` and ``Available``.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from pilothouse.kubernetes.readiness import (
    BEHIND,
    condition,
    containers,
    is_behind,
    is_healthy,
    mapping,
    old_replicas,
    pod_problem,
    progress,
    reason_and_message,
    rollout,
)

Object = dict[str, Any]


class Health(StrEnum):
    """How an object is; the worst comes first."""

    DEGRADED = "degraded"
    MISSING = "missing"
    UNKNOWN = "unknown"
    PROGRESSING = "progressing"
    TERMINATING = "terminating"
    SUSPENDED = "suspended"
    HEALTHY = "healthy"


Judged = tuple[Health, str]
_WELL: Final[Judged] = (Health.HEALTHY, "")


def health_of(live: Object) -> Judged:
    """Return the object's health, and why it is not healthy."""
    if mapping(live.get("metadata")).get("deletionTimestamp"):
        return Health.TERMINATING, "is being deleted"
    if is_behind(live):
        return Health.PROGRESSING, BEHIND
    return _RULES.get(str(live.get("kind")), _judge_conditions)(live)


def _judge_conditions(live: Object) -> Judged:
    status = mapping(live.get("status"))
    if _is(stalled := condition(status, "Stalled"), "True"):
        return Health.DEGRADED, reason_and_message(stalled)
    if _is(reconciling := condition(status, "Reconciling"), "True"):
        return Health.PROGRESSING, reason_and_message(reconciling)
    for kind in ("Ready", "Available"):
        found = condition(status, kind)
        if _is(found, "False") or _is(found, "Unknown"):
            return Health.PROGRESSING, reason_and_message(found) or f"is not {kind.lower()}"
    return _WELL


def _judge_workload(live: Object) -> Judged:
    spec, status = mapping(live.get("spec")), mapping(live.get("status"))
    failure, rollout = condition(status, "ReplicaFailure"), condition(status, "Progressing")
    if _is(failure, "True"):
        return Health.DEGRADED, reason_and_message(failure)
    if rollout.get("reason") == "ProgressDeadlineExceeded":
        return Health.DEGRADED, reason_and_message(rollout)
    if spec.get("paused") is True:
        return Health.SUSPENDED, "is paused"
    if "observedGeneration" not in status and live.get("kind") != "ReplicationController":
        return Health.PROGRESSING, "was not taken up yet"
    return _judge_replicas(live)


def _judge_replicas(live: Object) -> Judged:
    done, desired = rollout(live) or (0, 0)
    return (Health.PROGRESSING, progress(live)) if done < desired or old_replicas(live) else _WELL


def _judge_job(live: Object) -> Judged:
    status = mapping(live.get("status"))
    if _is(failed := condition(status, "Failed"), "True"):
        return Health.DEGRADED, reason_and_message(failed)
    if _is(condition(status, "Complete"), "True"):
        return _WELL
    if mapping(live.get("spec")).get("suspend") is True:
        return Health.SUSPENDED, "is suspended"
    return Health.PROGRESSING, progress(live)


def _judge_cron_job(live: Object) -> Judged:
    return (Health.SUSPENDED, "is suspended") if mapping(live.get("spec")).get("suspend") is True else _WELL


def _judge_pod(live: Object) -> Judged:
    if is_healthy(live):
        return _WELL
    failed = mapping(live.get("status")).get("phase") == "Failed" or any(
        container.failed for container in containers(live)
    )
    return (Health.DEGRADED if failed else Health.PROGRESSING), pod_problem(live)


def _judge_claim(live: Object) -> Judged:
    match phase := mapping(live.get("status")).get("phase"):
        case "Bound":
            return _WELL
        case "Lost":
            return Health.DEGRADED, "its volume is lost"
        case _:
            return Health.PROGRESSING, str(phase or "Pending")


def _judge_service(live: Object) -> Judged:
    balancer = mapping(mapping(live.get("status")).get("loadBalancer"))
    if mapping(live.get("spec")).get("type") == "LoadBalancer" and not balancer.get("ingress"):
        return Health.PROGRESSING, "its load balancer has no address yet"
    return _WELL


def _judge_autoscaler(live: Object) -> Judged:
    status = mapping(live.get("status"))
    for kind in ("AbleToScale", "ScalingActive"):
        found = condition(status, kind)
        if _is(found, "False") and found.get("reason") != "ScalingDisabled":
            return Health.DEGRADED, reason_and_message(found)
    return _WELL


def _judge_namespace(live: Object) -> Judged:
    phase = mapping(live.get("status")).get("phase")
    return (Health.TERMINATING, "is being deleted") if phase == "Terminating" else _WELL


def _is(condition_found: Object, status: str) -> bool:
    return condition_found.get("status") == status


_RULES: Final[Mapping[str, Callable[[Object], Judged]]] = {
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController"), _judge_workload),
    "Job": _judge_job,
    "CronJob": _judge_cron_job,
    "Pod": _judge_pod,
    "PersistentVolumeClaim": _judge_claim,
    "Service": _judge_service,
    "HorizontalPodAutoscaler": _judge_autoscaler,
    "Namespace": _judge_namespace,
}

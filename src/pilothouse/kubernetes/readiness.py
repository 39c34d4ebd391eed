"""Readiness of objects, in the words of their status. Pure functions; a status may contain anything."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Object = dict[str, Any]

#: Why a container waits when all is well.
_USUAL = frozenset({"", "ContainerCreating", "PodInitializing"})


#: Of an object whose status is of before the latest change.
BEHIND: Final = "the latest change was not taken up yet"


class _Fields(NamedTuple):
    """Where the status counts replicas: all, those as they are wanted now, and those ready for long enough."""

    all: str
    updated: str
    available: str


_UPDATED: Final = {
    "Deployment": _Fields("replicas", "updatedReplicas", "availableReplicas"),
    "DaemonSet": _Fields("currentNumberScheduled", "updatedNumberScheduled", "numberAvailable"),
}


@dataclass(frozen=True)
class Container:
    """A container of a pod; ``state`` is a description.

    ``started``: it runs or has run, so there is a log. ``failed``: its state is not a healthy one.
    """

    name: str
    state: str
    started: bool
    failed: bool
    restarts: int


def replicas(live: Object) -> tuple[int, int] | None:
    """Return ready and wanted replicas (of a Job: completions); None for kinds without."""
    spec, status = mapping(live.get("spec")), mapping(live.get("status"))
    match live.get("kind"):
        case "Deployment" | "ReplicaSet" | "StatefulSet" | "ReplicationController":
            return _number(status.get("readyReplicas")), _number(spec.get("replicas"), default=1)
        case "DaemonSet":
            return _number(status.get("numberReady")), _number(status.get("desiredNumberScheduled"))
        case "Job":
            return _number(status.get("succeeded")), _number(spec.get("completions"), default=1)
        case _:
            return None


def rollout(live: Object) -> tuple[int, int] | None:
    """Return how many replicas are ready as the object wants them now, and how many it wants; None for kinds without.

    Pods of before an update, which stay ready meanwhile, do not count; as ``kubectl rollout status`` has it.
    """
    counted = replicas(live)
    if counted is None:
        return None
    ready, desired = counted
    if is_behind(live):
        return 0, desired
    if live.get("kind") in _UPDATED:
        ready = min(ready - old_replicas(live), _updated(live))
        if mapping(live.get("spec")).get("minReadySeconds"):
            ready = min(ready, _number(mapping(live.get("status")).get(_UPDATED[str(live["kind"])].available)))
    elif live.get("kind") == "StatefulSet":
        ready -= old_replicas(live)
    return max(0, min(ready, desired)), desired


def old_replicas(live: Object) -> int:
    """Return how many replicas are to be replaced still, as they are of before the latest change."""
    spec, status = mapping(live.get("spec")), mapping(live.get("status"))
    strategy = mapping(spec.get("updateStrategy"))
    if (kind := live.get("kind")) in _UPDATED and strategy.get("type") != "OnDelete":
        return max(0, _number(status.get(_UPDATED[str(kind)].all)) - _updated(live))
    if kind != "StatefulSet" or strategy.get("type") == "OnDelete":
        return 0
    if status.get("updateRevision") == status.get("currentRevision"):
        return 0
    kept = _number(mapping(strategy.get("rollingUpdate")).get("partition"))
    return max(0, _number(spec.get("replicas"), default=1) - kept - _number(status.get("updatedReplicas")))


def is_behind(live: Object) -> bool:
    """Return True if the status is of before the latest change."""
    desired = mapping(live.get("metadata")).get("generation")
    seen = mapping(live.get("status")).get("observedGeneration")
    return isinstance(desired, int) and isinstance(seen, int) and seen < desired


def progress(live: Object) -> str:
    """Return the same as text, ``1 of 3 ready``; '' for kinds without."""
    counted = rollout(live)
    if counted is None:
        return ""
    done, desired = counted
    if live.get("kind") == "Job":
        return f"{done} of {desired} completed"
    if is_behind(live):
        return BEHIND
    if old := old_replicas(live):
        return f"{done} of {desired} new ready, {old} old left"
    ready = (replicas(live) or counted)[0]
    return f"{done} of {desired} ready" if ready <= desired else f"{ready} ready, {desired} wanted"


def _updated(live: Object) -> int:
    fields, status = _UPDATED[str(live["kind"])], mapping(live.get("status"))
    if mapping(mapping(live.get("spec")).get("updateStrategy")).get("type") == "OnDelete":
        return _number(status.get(fields.all))
    return _number(status.get(fields.updated))


def is_healthy(pod: Object) -> bool:
    """Return True if the pod is ready or completed."""
    status = mapping(pod.get("status"))
    return status.get("phase") == "Succeeded" or condition(status, "Ready").get("status") == "True"


def pod_problem(pod: Object) -> str:
    """Return why the pod is not healthy, in one line; its phase if it gives no reason."""
    status = mapping(pod.get("status"))
    scheduled = condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return reason_and_message(scheduled)
    for container in containers(pod):
        if container.failed:
            return f"container {container.name}: {container.state}"
    if status.get("reason") or status.get("message"):  # evicted, over its deadline, on a node that is lost
        return reason_and_message(status)
    ready = condition(status, "Ready")
    if ready.get("status") == "False" and ready.get("message"):
        return reason_and_message(ready)
    waiting = next((container for container in containers(pod) if not container.started), None)
    if waiting is not None:
        return f"container {waiting.name}: {waiting.state}"
    return str(status.get("phase") or "Pending")


def containers(pod: Object) -> Iterator[Container]:
    """Yield the pod's containers from its status, running ones first."""
    status = mapping(pod.get("status"))
    for key in ("initContainerStatuses", "containerStatuses"):
        statuses = status.get(key)
        for entry in statuses if isinstance(statuses, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                yield _container(entry)


def _container(status: Object) -> Container:
    state = mapping(status.get("state"))
    restarts = _number(status.get("restartCount"))
    ended, last = mapping(state.get("terminated")), mapping(mapping(status.get("lastState")).get("terminated"))
    waiting = mapping(state.get("waiting"))
    is_waiting = False
    if ended:
        failed, words = _number(ended.get("exitCode")) != 0, _ended(ended)
    elif "running" in state:
        failed, words = False, "running"
    else:
        failed, is_waiting = str(waiting.get("reason") or "") not in _USUAL, True
        words = reason_and_message(waiting) or "waiting"
    if last and not ended:
        words += f"; before that {_ended(last)}"
    return Container(
        status["name"],
        words,
        started=not is_waiting or bool(last),
        failed=failed,
        restarts=restarts,
    )


def _ended(state: Object) -> str:
    words = f"ended with exit code {_number(state.get('exitCode'))}"
    return f"{words} ({reason_and_message(state)})" if reason_and_message(state) else words


def reason_and_message(said: Object) -> str:
    """Return reason and message on one line."""
    parts = [str(said[key]) for key in ("reason", "message") if said.get(key)]
    return " ".join(": ".join(parts).split())


def condition(status: Object, kind: str) -> Object:
    """Return the condition of that type; an empty one if there is none."""
    conditions = status.get("conditions")
    found = (item for item in conditions if isinstance(item, dict)) if isinstance(conditions, list) else iter(())
    return next((item for item in found if item.get("type") == kind), {})


def mapping(value: object) -> Object:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def _number(value: object, *, default: int = 0) -> int:
    return value if isinstance(value, int) else default

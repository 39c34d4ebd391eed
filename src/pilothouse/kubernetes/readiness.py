"""Readiness of objects, in the words of their status. Pure functions; a status may contain anything."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

#: Why a container waits when all is well.
_USUAL = frozenset({"", "ContainerCreating", "PodInitializing"})


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


def progress(live: Object) -> str:
    """Return the same as text, ``1 of 3 ready``; '' for kinds without."""
    counted = replicas(live)
    return f"{counted[0]} of {counted[1]} {'completed' if live.get('kind') == 'Job' else 'ready'}" if counted else ""


def is_healthy(pod: Object) -> bool:
    """Return True if the pod is ready or completed."""
    status = mapping(pod.get("status"))
    return status.get("phase") == "Succeeded" or _condition(status, "Ready").get("status") == "True"


def pod_problem(pod: Object) -> str:
    """Return why the pod is not healthy, in one line; its phase if it gives no reason."""
    status = mapping(pod.get("status"))
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return _said(scheduled)
    for one in containers(pod):
        if one.failed:
            return f"container {one.name}: {one.state}"
    if status.get("reason") or status.get("message"):  # evicted, over its deadline, on a node that is lost
        return _said(status)
    ready = _condition(status, "Ready")
    if ready.get("status") == "False" and ready.get("message"):
        return _said(ready)
    waiting = next((one for one in containers(pod) if not one.started), None)
    if waiting is not None:
        return f"container {waiting.name}: {waiting.state}"
    return str(status.get("phase") or "Pending")


def containers(pod: Object) -> Iterator[Container]:
    """Yield the pod's containers from its status, running ones first."""
    status = mapping(pod.get("status"))
    for key in ("initContainerStatuses", "containerStatuses"):
        statuses = status.get(key)
        for one in statuses if isinstance(statuses, list) else ():
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                yield _container(one)


def _container(one: Object) -> Container:
    state = mapping(one.get("state"))
    restarts = _number(one.get("restartCount"))
    ended, last = mapping(state.get("terminated")), mapping(mapping(one.get("lastState")).get("terminated"))
    waiting = mapping(state.get("waiting"))
    is_waiting = False
    if ended:
        failed, words = _number(ended.get("exitCode")) != 0, _ended(ended)
    elif "running" in state:
        failed, words = False, "running"
    else:
        failed, words, is_waiting = str(waiting.get("reason") or "") not in _USUAL, _said(waiting) or "waiting", True
    if last and not ended:
        words += f"; before that {_ended(last)}"
    return Container(
        one["name"],
        words,
        started=not is_waiting or bool(last),
        failed=failed,
        restarts=restarts,
    )


def _ended(state: Object) -> str:
    words = f"ended with exit code {_number(state.get('exitCode'))}"
    return f"{words} ({_said(state)})" if _said(state) else words


def _said(mapping: Object) -> str:
    """Return reason and message on one line."""
    parts = [str(mapping[key]) for key in ("reason", "message") if mapping.get(key)]
    return " ".join(": ".join(parts).split())


def _condition(status: Object, kind: str) -> Object:
    conditions = status.get("conditions")
    found = (one for one in conditions if isinstance(one, dict)) if isinstance(conditions, list) else iter(())
    return next((one for one in found if one.get("type") == kind), {})


def mapping(value: object) -> Object:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def _number(value: object, *, default: int = 0) -> int:
    return value if isinstance(value, int) else default

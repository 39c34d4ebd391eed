"""What belongs to one operation: of what the cluster keeps, much is of earlier ones of the same release.

An object that is made anew is told by its uid; one that stays, such as a Deployment, by the time of what happened.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pilothouse.kubernetes.pods import event_facts
from pilothouse.kubernetes.readiness import is_healthy, mapping, pod_problem, rollout
from pilothouse.states import OperationState
from pilothouse.worker.attempt import Attempt

Object = dict[str, Any]

#: How far a cluster's clock, which is not known, may be behind.
_CLOCKS: Final = timedelta(seconds=60)
#: How far the clock of a node, by which its kubelet tells when an event happened, may be behind that of its cluster.
_NODES: Final = timedelta(seconds=5)
_UNKNOWN: Final = datetime.max.replace(tzinfo=UTC)


def since(attempt: Attempt, *, ahead: timedelta | None) -> datetime:
    """Return when the operation began, by the cluster's clock, which is that much ahead of this process's."""
    row = attempt.row
    is_first = row.attempt == 1 and row.state == OperationState.RUNNING
    began = attempt.followed.since if is_first else row.started_at or row.created_at
    return began_at(began, ahead=ahead)


def began_at(began: datetime, *, ahead: timedelta | None) -> datetime:
    """Return that moment by the cluster's clock, in whole seconds, as which Kubernetes tells most times."""
    return (began + ahead).replace(microsecond=0) if ahead is not None else began - _CLOCKS


def is_own_event(event: Object, *, since: datetime, uid: str) -> bool:
    """Return True if it happened since, as far as clocks agree, and to the object of that uid, if that is known."""
    about = str(mapping(event.get("involvedObject")).get("uid") or "")
    slow = _NODES if mapping(event.get("source")).get("host") else timedelta()
    return _moment(event_facts(event)["at"]) >= since - slow and (not uid or not about or about == uid)


def pods_of_job(pods: list[Object], job: Object | None, *, since: datetime) -> list[Object]:
    """Return the Job's own pods; of one that is gone, those created since: a Job's name is used again and again."""
    uid = uid_of(job)
    if not uid:
        return [pod for pod in pods if created_at(pod) >= since]
    owners = (mapping(pod.get("metadata")).get("ownerReferences") or () for pod in pods)
    return [
        pod for pod, owning in zip(pods, owners, strict=True) if uid in {mapping(owner).get("uid") for owner in owning}
    ]


def is_done(live: Object, *, hook: bool) -> bool:
    """Return True if nothing is amiss with the object, whose pods are healthy: it is ready, or a hook has completed."""
    if live.get("kind") == "Pod":
        return not hook or mapping(live.get("status")).get("phase") == "Succeeded"
    ready = rollout(live)
    return ready is not None and ready[0] >= ready[1]


def pod_state(live: Object) -> str:
    """Return how a pod is; nothing for other kinds."""
    if live.get("kind") != "Pod":
        return ""
    return str(mapping(live.get("status")).get("phase") or "Pending") if is_healthy(live) else pod_problem(live)


def created_at(obj: Object) -> datetime:
    """Return when the object was created, by the cluster's clock; of an unknown time, the end of times."""
    return _moment(str(mapping(obj.get("metadata")).get("creationTimestamp") or ""))


def uid_of(live: Object | None) -> str:
    """Return the object's uid; nothing if it is not there."""
    return str(mapping(mapping(live).get("metadata")).get("uid") or "")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _UNKNOWN  # of an unknown time: it is not left out for that
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

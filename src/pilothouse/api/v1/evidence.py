"""Evidence of failures: what was read from the cluster before it could be gone."""

from typing import Any

import orjson
import structlog
from fastapi import Request

from pilothouse.api.v1.dependencies import CurrentCaller
from pilothouse.api.v1.models import Milliseconds, View
from pilothouse.api.v1.operations import OperationsService
from pilothouse.api.v1.routing import native_router
from pilothouse.http.audit import note_logs
from pilothouse.store.evidence import EvidenceRow

log = structlog.get_logger(__name__)

router = native_router("/api/v1/operations", tag="operations")


class BlockingView(View):
    """An object that a wait timed out on, with its state in the words of Helm's readiness library."""

    kind: str
    namespace: str
    name: str
    status: str
    message: str


class ConflictView(View):
    """A field of an object owned by another manager, so that server-side apply did not set it."""

    kind: str
    namespace: str
    name: str
    field: str
    manager: str


class ObjectView(View):
    """An unhealthy object; `hook`: it belongs to a hook. `state`: `1 of 3 ready`, `gone`, or empty."""

    kind: str
    namespace: str
    name: str
    hook: bool
    state: str


class ContainerView(View):
    """A container, and the last lines of its log."""

    name: str
    state: str
    log: list[str]


class PodView(View):
    """A pod of a hook, or an unready one; `owner` is the object it belongs to, `trouble` is empty if it was healthy."""

    namespace: str
    name: str
    owner: str
    hook: bool
    phase: str
    trouble: str
    containers: list[ContainerView]


class KubernetesEventView(View):
    """A Kubernetes event about one of these objects."""

    at: str
    type: str
    object: str
    reason: str
    text: str
    count: int


class EvidenceView(View):
    """Evidence of a failed attempt: Helm's error and the cluster's state; `missing`: what could not be read.

    Of tests that passed it has their pods, and no error.
    """

    attempt: int
    at: Milliseconds
    error: str
    blocking: list[BlockingView]
    conflicts: list[ConflictView]
    objects: list[ObjectView]
    pods: list[PodView]
    events: list[KubernetesEventView]
    missing: list[str]


@router.get("/{operation_id}/evidence", response_model=list[EvidenceView])
async def list_evidence(
    request: Request, operation_id: str, caller: CurrentCaller, operations: OperationsService
) -> list[EvidenceView]:
    """List the evidence of the operation's failed attempts, oldest first: what was read before it could be gone.

    Empty if nothing failed; the logs of tests are there in any case. Kept as long as the operation; secrets that
    Pilothouse knows or recognises are masked.
    """
    found = await operations.list_evidence(caller, operation_id)
    views = [_view(operation_id, row) for row in found]
    if any(container.log for view in views for pod in view.pods for container in pod.containers):
        note_logs(request, await operations.show(caller, operation_id))
    return views


def _view(operation_id: str, row: EvidenceRow) -> EvidenceView:
    try:
        return EvidenceView.model_validate({"attempt": row.attempt, "at": row.at, **orjson.loads(row.found)})
    except (ValueError, TypeError) as error:
        log.warning("evidence_unreadable", operation_id=operation_id, attempt=row.attempt, error=type(error).__name__)
        nothing: dict[str, Any] = {key: [] for key in ("blocking", "conflicts", "objects", "pods", "events")}
        damaged = "everything: the stored evidence of this attempt (operation_evidence.found) is damaged"
        return EvidenceView(attempt=row.attempt, at=row.at, error="", missing=[damaged], **nothing)

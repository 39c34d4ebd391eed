"""Why an operation failed: what was read from the cluster before it could be gone."""

import orjson

from pilothouse.api.v1.dependencies import CurrentCaller
from pilothouse.api.v1.models import Milliseconds, View
from pilothouse.api.v1.operations import OperationsService
from pilothouse.api.v1.routing import native_router

router = native_router("/api/v1/operations", tag="operations")


class BlockingView(View):
    """An object that was waited for in vain, with its state in the words of Helm's readiness library."""

    kind: str
    namespace: str
    name: str
    status: str
    message: str


class ConflictView(View):
    """A field of an object that another manager holds, so that server-side apply did not set it."""

    kind: str
    namespace: str
    name: str
    field: str
    manager: str


class ObjectView(View):
    """An object that was not as it should be; `hook`: it is a hook's. `state`: `1 of 3 ready`, `gone`, or empty."""

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
    """A pod of a hook, or one that was not ready; `owner` is what it belongs to, `trouble` is empty if all was well."""

    namespace: str
    name: str
    owner: str
    hook: bool
    phase: str
    trouble: str
    containers: list[ContainerView]


class KubernetesEventView(View):
    """What a part of Kubernetes said about one of these objects."""

    at: str
    type: str
    object: str
    reason: str
    text: str
    count: int


class EvidenceView(View):
    """What an attempt that failed found: Helm's error, what the cluster told; `missing`: what could not be had."""

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
    operation_id: str, caller: CurrentCaller, operations: OperationsService
) -> list[dict[str, object]]:
    """Why the operation failed: what was read from the cluster before it could be gone, oldest attempt first.

    Empty if nothing failed. Kept as long as the operation; without secrets that Pilothouse knows or recognises.
    """
    found = await operations.list_evidence(caller, operation_id)
    return [{"attempt": row.attempt, "at": row.at, **orjson.loads(row.found)} for row in found]

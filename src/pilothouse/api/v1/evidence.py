"""Why an operation failed: what was read from the cluster before it could be gone."""

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from pilothouse.http.requests import caller_of, json_response
from pilothouse.services.operations.read import Operations


class BlockingView(BaseModel):
    """An object that was waited for in vain, with its state in the words of Helm's readiness library."""

    kind: str
    namespace: str
    name: str
    status: str
    message: str


class ConflictView(BaseModel):
    """A field of an object that another manager holds, so that server-side apply did not set it."""

    kind: str
    namespace: str
    name: str
    field: str
    manager: str


class ObjectView(BaseModel):
    """An object that was not as it should be; `hook`: it is a hook's. `state`: `1 of 3 ready`, `gone`, or empty."""

    kind: str
    namespace: str
    name: str
    hook: bool
    state: str


class ContainerView(BaseModel):
    """A container, and the last lines of its log."""

    name: str
    state: str
    log: list[str]


class PodView(BaseModel):
    """A pod of a hook, or one that was not ready; `owner` is what it belongs to, `trouble` is empty if all was well."""

    namespace: str
    name: str
    owner: str
    hook: bool
    phase: str
    trouble: str
    containers: list[ContainerView]


class KubernetesEventView(BaseModel):
    """What a part of Kubernetes said about one of these objects."""

    at: str
    type: str
    object: str
    reason: str
    text: str
    count: int


class EvidenceView(BaseModel):
    """What an attempt that failed found: Helm's error, what the cluster told; `missing`: what could not be had."""

    attempt: int
    at: str
    error: str
    blocking: list[BlockingView]
    conflicts: list[ConflictView]
    objects: list[ObjectView]
    pods: list[PodView]
    events: list[KubernetesEventView]
    missing: list[str]


def routes(operations: Operations) -> APIRouter:
    """The route about evidence."""
    router = APIRouter(prefix="/api/v1", tags=["operations"])

    @router.get("/operations/{operation_id}/evidence", response_model=list[EvidenceView])
    async def list_evidence(request: Request, operation_id: str) -> Response:
        """Why the operation failed: what was read from the cluster before it could be gone, oldest attempt first.

        Empty if nothing failed. Kept as long as the operation; without secrets that Pilothouse knows or recognises.
        """
        found = await operations.list_evidence(caller_of(request), operation_id)
        shown = [
            {"attempt": row.attempt, "at": row.at.isoformat(timespec="milliseconds"), **orjson.loads(row.found)}
            for row in found
        ]
        return json_response(shown)

    return router

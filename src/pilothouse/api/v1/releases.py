"""What our own API does with releases, beside the vendor's: unlock."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from pilothouse.http.json_bodies import read_json
from pilothouse.http.openapi import takes
from pilothouse.http.requests import caller_of, json_response, request_id_of
from pilothouse.services.releases.unlock import Unlocks


class UnlockRelease(BaseModel):
    """Which release, and why its writer is known to be dead; the reason is kept with the revision."""

    model_config = ConfigDict(extra="forbid", strict=True)

    namespace: str
    name: str
    reason: str


class UnlockedRevision(BaseModel):
    """The revision that was locked: ``was`` then, ``status`` now."""

    namespace: str
    name: str
    revision: int
    was: str
    status: str
    description: str


def routes(unlocks: Unlocks) -> APIRouter:
    """The release routes of our own API."""
    router = APIRouter(prefix="/api/v1/clusters/{cluster_id}", tags=["releases"])

    @router.post("/unlock", response_model=UnlockedRevision, openapi_extra=takes(UnlockRelease))
    async def unlock_release(request: Request, cluster_id: str) -> Response:
        """Ends the lock of a release whose writer died: its newest revision becomes a failed one, for good."""
        caller_of(request).require("cce:release:update")
        body = await read_json(request, UnlockRelease)
        unlocked = await unlocks.unlock(
            caller_of(request),
            cluster_id,
            namespace=body.namespace,
            name=body.name,
            reason=body.reason,
            request_id=request_id_of(request),
        )
        stored = unlocked.stored
        return json_response(
            UnlockedRevision(
                namespace=stored.namespace,
                name=stored.name,
                revision=stored.revision,
                was=unlocked.was,
                status=stored.status,
                description=stored.description,
            ).model_dump()
        )

    return router

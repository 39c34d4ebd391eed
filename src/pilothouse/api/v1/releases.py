"""Operations on releases that the vendor's API lacks: unlock."""

from typing import Annotated

from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed, service
from pilothouse.api.v1.models import Body, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.errors import AtWorkElsewhere
from pilothouse.services.releases.unlock import Unlocks

router = native_router("/api/v1/clusters/{cluster_id}", tag="releases")
UnlocksService = Annotated[Unlocks, service(Unlocks)]


class UnlockRelease(Body):
    """The release, and why its writer is known to be dead; the reason is stored with the revision."""

    namespace: str
    name: str
    reason: str


class UnlockedRevision(View):
    """The revision that was locked: ``was`` is its previous status, ``status`` the current one."""

    namespace: str
    name: str
    revision: int
    was: str
    status: str
    description: str


@router.post(
    "/unlock",
    response_model=UnlockedRevision,
    dependencies=[allowed("cce:release:update")],
    responses=error_responses(AtWorkElsewhere),
)
async def unlock_release(
    cluster_id: str, body: UnlockRelease, caller: CurrentCaller, unlocks: UnlocksService, request_id: RequestId
) -> dict[str, object]:
    """Unlock a release whose writer died: its newest revision is marked as failed, permanently.

    409 while an operation of Pilothouse is at work on it through another registration of the same API server.
    """
    unlocked = await unlocks.unlock(caller, cluster_id, **dict(body), request_id=request_id)
    return {**vars(unlocked.stored), "was": unlocked.was}

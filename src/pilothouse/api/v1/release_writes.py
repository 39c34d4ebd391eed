"""Writes of releases: each is an operation, which the answer shows."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request, Response

from pilothouse import errors
from pilothouse.api.v1.chart_references import Choosing
from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed, service
from pilothouse.api.v1.operations import OperationView, operation_view
from pilothouse.api.v1.release_bodies import (
    DeleteReleaseBody,
    DeployReleaseBody,
    RollbackReleaseBody,
    RunTestsBody,
    UnlockReleaseBody,
)
from pilothouse.api.v1.release_reads import OfRelease
from pilothouse.api.v1.releases import UnlockedRevision
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.http.requests import caller_of, idempotency_key, service_of, wanted_wait
from pilothouse.services.clusters import Clusters
from pilothouse.services.operations.idempotency import Idempotency, Key, SubmittedOperation
from pilothouse.services.operations.wait import OperationWaits
from pilothouse.services.releases.delete import Deletions
from pilothouse.services.releases.deploy import Deployments
from pilothouse.services.releases.details import ReleaseRef
from pilothouse.services.releases.run_tests import ReleaseTests
from pilothouse.services.releases.unlock import Unlocks
from pilothouse.services.releases.update import Updates
from pilothouse.states import LIVING_STATES

router = native_router("/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}", tag="releases")

_ENDED: Final = 200
ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": OperationView, "description": "The operation, which has ended; `state` says how."},
    202: {
        "description": "The operation, which has been accepted.",
        "headers": {"Location": {"description": "the operation", "schema": {"type": "string"}}},
    },
    **error_responses(errors.AlreadyExists, errors.KeyUsed),
}


async def _key(
    request: Request,
    _idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="a repeat is answered like the first; anything else with it is 422",
        ),
    ] = None,  # generated clients send a default
) -> Key | None:
    return await idempotency_key(request)


class Acceptance:
    """How a write is answered: at once, or after its end if the caller prefers to wait."""

    def __init__(
        self,
        request: Request,
        response: Response,
        key: Annotated[Key | None, Depends(_key)],
        _caller: CurrentCaller,
        _prefer: Annotated[
            str | None, Header(alias="Prefer", description="`wait=N`: answer at the end, after at most N seconds (60)")
        ] = None,
    ) -> None:
        self._request = request
        self._response = response
        self._key = key

    async def once(self, write: Callable[[Key | None], Awaitable[SubmittedOperation]]) -> dict[str, object]:
        """Write at most once per key; return the operation: 200 if it has ended, else 202."""
        caller, idempotency = caller_of(self._request), service_of(self._request, Idempotency)
        accepted = await idempotency.once(caller, self._key, lambda: write(self._key))
        operation_id, seconds = accepted.operation_id or "", wanted_wait(self._request)
        waits = service_of(self._request, OperationWaits)
        row = await waits.show(caller, operation_id, seconds=seconds)
        headers = self._response.headers
        headers["Location"] = f"/api/v1/operations/{operation_id}"
        headers["X-Operation-Id"] = operation_id
        if seconds:
            headers["Preference-Applied"] = f"wait={seconds}"
        if accepted.repeated:
            headers["X-Pilothouse-Repeated"] = "true"
        if row.state not in LIVING_STATES:
            self._response.status_code = _ENDED
        return operation_view(row)


Accepting = Annotated[Acceptance, Depends()]


@router.put(
    "",
    response_model=OperationView,
    status_code=202,
    dependencies=[allowed("cce:release:update")],
    responses={
        **ACCEPTED,
        **error_responses(errors.AlreadyExists, errors.KeyUsed, errors.ReleaseMoved, errors.SourceUnavailable),
    },
)
async def deploy_release(
    *,
    place: OfRelease,
    body: DeployReleaseBody,
    caller: CurrentCaller,
    deployments: Annotated[Deployments, service(Deployments)],
    accepting: Accepting,
    charts: Choosing,
    request_id: RequestId,
) -> dict[str, object]:
    """Make the release so: install it, or upgrade it if it exists. `cluster` is an id or a name.

    An install needs the right to create releases as well. The answer is the operation.
    """

    async def deploy(key: Key | None) -> SubmittedOperation:
        request = body.as_request(await charts.choose(body.chart))
        return await deployments.deploy(caller, place, request, request_id=request_id, key=key)

    return await accepting.once(deploy)


async def _located(request: Request, place: OfRelease, _caller: CurrentCaller) -> ReleaseRef:
    cluster = await service_of(request, Clusters).identify(place.cluster, project_id=caller_of(request).project_id)
    return replace(place, cluster=cluster.id)


Located = Annotated[ReleaseRef, Depends(_located)]


@router.post(
    "/rollback",
    response_model=OperationView,
    status_code=202,
    dependencies=[allowed("cce:release:update")],
    responses=ACCEPTED,
)
async def rollback_release(
    *,
    place: Located,
    caller: CurrentCaller,
    updates: Annotated[Updates, service(Updates)],
    accepting: Accepting,
    request_id: RequestId,
    body: RollbackReleaseBody = RollbackReleaseBody(),  # noqa: B008 - never changed
) -> dict[str, object]:
    """Roll the release back to a revision that was deployed; the answer is the operation."""
    return await accepting.once(
        lambda key: updates.update(
            caller,
            place.cluster,
            namespace=place.namespace,
            name=place.name,
            request=body.as_request(),
            request_id=request_id,
            key=key,
        )
    )


@router.post(
    "/test",
    response_model=OperationView,
    status_code=202,
    dependencies=[allowed("cce:release:update")],
    responses=ACCEPTED,
)
async def run_release_tests(
    *,
    place: Located,
    caller: CurrentCaller,
    tests: Annotated[ReleaseTests, service(ReleaseTests)],
    accepting: Accepting,
    request_id: RequestId,
    body: RunTestsBody = RunTestsBody(),  # noqa: B008 - never changed
) -> dict[str, object]:
    """Run the tests of the release's chart, as `helm test` does; the answer is the operation, failed if a test is.

    What became of each test is in the operation's event `tests_run`, and in the hooks of the release; the ends of their
    logs are in the operation's evidence, also of tests that passed, and when their pods are gone.
    """
    return await accepting.once(
        lambda key: tests.run(
            caller,
            place,
            filters=body.filters,
            timeout_seconds=body.options.timeout_seconds,
            request_id=request_id,
            key=key,
        )
    )


@router.delete(
    "",
    response_model=OperationView,
    status_code=202,
    dependencies=[allowed("cce:release:delete")],
    responses=ACCEPTED,
)
async def delete_release(
    *,
    place: Located,
    caller: CurrentCaller,
    deletions: Annotated[Deletions, service(Deletions)],
    accepting: Accepting,
    request_id: RequestId,
    body: DeleteReleaseBody = DeleteReleaseBody(),  # noqa: B008 - never changed
) -> dict[str, object]:
    """Uninstall the release, or cancel its unfinished install; the answer is the operation."""
    return await accepting.once(
        lambda key: deletions.delete(
            caller,
            place.cluster,
            namespace=place.namespace,
            name=place.name,
            request=body.as_request(),
            request_id=request_id,
            key=key,
        )
    )


@router.post(
    "/unlock",
    response_model=UnlockedRevision,
    dependencies=[allowed("cce:release:update")],
    responses=error_responses(errors.AtWorkElsewhere),
)
async def unlock_named_release(
    place: Located,
    body: UnlockReleaseBody,
    caller: CurrentCaller,
    unlocks: Annotated[Unlocks, service(Unlocks)],
    request_id: RequestId,
) -> dict[str, object]:
    """Unlock the release, whose writer died: its newest revision is marked as failed, permanently.

    409 while an operation of Pilothouse is at work on it through another registration of the same API server.
    """
    unlocked = await unlocks.unlock(
        caller,
        place.cluster,
        namespace=place.namespace,
        name=place.name,
        reason=body.reason,
        request_id=request_id,
    )
    return {**vars(unlocked.stored), "was": unlocked.was}

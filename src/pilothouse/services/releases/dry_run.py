"""Dry runs: answered at once by an engine of this process, against the cluster; nothing is stored."""

from typing import TypeVar

from pilothouse.engine.protocol import InstallRequest, Request, UpgradeRequest
from pilothouse.errors import EngineCrashed, EngineTimeout, HelmError, InvalidRequest
from pilothouse.services.clusters import ClusterConnection
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.preflight import ExpectedRevision
from pilothouse.services.releases.secret_data import without_secret_data

#: Helm's own words.
DRY_RUN_COMPLETE = "Dry run complete"

OutcomeT = TypeVar("OutcomeT")
Answer = TypeVar("Answer")


async def dry_run(
    shared: ReleaseDependencies,
    request: Request[OutcomeT],
    cluster: ClusterConnection,
    *,
    what: str,
    expected: ExpectedRevision = ExpectedRevision(),  # noqa: B008 (immutable)
) -> OutcomeT:
    """Return what Helm would make of the request; InvalidRequest with the reason or the exceeded limit if nothing.

    The reason is Helm's own, or the preflight's. ``what`` names what was tried. Raises Busy if no engine is free;
    the engine is shared with other projects.
    """

    async def ask(wanted: Request[Answer]) -> Answer:
        return await shared.engine.run(
            wanted,
            deadline_seconds=limits.answer_seconds,
            queue_seconds=limits.queue_seconds,
            share=cluster.project_id,
        )

    limits, preflight = shared.settings.engine, shared.preflight
    client, problem = shared.clusters.client(cluster), None
    try:
        if isinstance(request, InstallRequest | UpgradeRequest):
            problem = await preflight.find_problem(ask, client, request, expected)
        if problem is None:
            return await ask(request)
    except HelmError as error:
        problem = await preflight.explain(client, error)
        if isinstance(request, InstallRequest | UpgradeRequest):
            problem = await without_secret_data(
                problem, chart=request.chart, client=client, limits=shared.settings.charts
            )
    except EngineTimeout as error:
        raise InvalidRequest(f"dry run: {what} was stopped after {limits.answer_seconds:g} s, the limit") from error
    except EngineCrashed as error:
        raise InvalidRequest(f"dry run: {what} failed: {error}") from error
    raise InvalidRequest(f"dry run: {problem}")

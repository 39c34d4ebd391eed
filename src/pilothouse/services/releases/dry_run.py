"""Dry runs: answered at once by an engine of this process, against the cluster; nothing is stored."""

from typing import Final, TypeVar

from pilothouse.auth.policy import READ_VALUES
from pilothouse.engine.protocol import InstallRequest, UpgradeRequest
from pilothouse.engine.request import Request
from pilothouse.errors import EngineCrashed, EngineTimeout, HelmError, InvalidRequest
from pilothouse.services.clusters import ClusterConnection
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.preflight import ExpectedRevision, values_are_known
from pilothouse.services.releases.secret_data import without_secret_data

#: Helm's own words.
DRY_RUN_COMPLETE = "Dry run complete"

_WITHHELD: Final = (
    f"it would fail; the reason is withheld, because it can tell values of the release, which takes {READ_VALUES}"
)

OutcomeT = TypeVar("OutcomeT")
Answer = TypeVar("Answer")


async def dry_run(
    shared: ReleaseDependencies,
    request: Request[OutcomeT],
    cluster: ClusterConnection,
    *,
    what: str,
    expected: ExpectedRevision = ExpectedRevision(),  # noqa: B008 (immutable)
    findings: list[str] | None = None,
    hides: bool = False,
) -> OutcomeT:
    """Return what Helm would make of the request; InvalidRequest with the reason or the exceeded limit if nothing.

    The reason is Helm's own, or the preflight's. ``what`` names what was tried. Raises Busy if no engine is free;
    the engine is shared with other projects. What the preflight finds is added to ``findings``, if given, and then it
    is no error. ``hides``: the caller may not read values, and is told no reason if the release's own are among those
    that were rendered: a template, or a schema, can tell them.
    """

    async def ask(wanted: Request[Answer]) -> Answer:
        return await shared.engine.run(
            wanted,
            deadline_seconds=limits.answer_seconds,
            queue_seconds=limits.queue_seconds,
            share=cluster.project_id,
        )

    hides = hides and not (isinstance(request, InstallRequest | UpgradeRequest) and values_are_known(request))
    limits, preflight = shared.settings.engine, shared.preflight
    client, problem = shared.clusters.client(cluster), None
    try:
        if isinstance(request, InstallRequest | UpgradeRequest):
            problem = await preflight.find_problem(ask, client, request, expected)
        if problem is not None and findings is not None:
            findings.append(problem)
            problem = None
        if problem is None:
            return await ask(request)
    except HelmError as error:
        problem = await preflight.explain(client, error, getattr(request, "layers", ()))
        if isinstance(request, InstallRequest | UpgradeRequest):
            problem = await without_secret_data(
                problem, chart=request.chart, client=client, limits=shared.settings.charts
            )
    except EngineTimeout as error:
        raise InvalidRequest(f"dry run: {what} was stopped after {limits.answer_seconds:g} s, the limit") from error
    except EngineCrashed as error:
        raise InvalidRequest(f"dry run: {what} failed: {error}") from error
    raise InvalidRequest(f"dry run: {_WITHHELD if hides else problem}")

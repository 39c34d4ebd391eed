"""Dry runs: answered at once by an engine of this process, against the cluster; nothing is stored."""

from typing import Any, TypeVar

from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest, Request, UpgradeRequest
from pilothouse.errors import EngineCrashed, EngineTimeout, HelmError, InvalidRequest
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.services.releases.preflight import Preflight
from pilothouse.services.releases.secret_data import without_secret_data
from pilothouse.settings import Settings

#: Helm's own words.
DRY_RUN_COMPLETE = "Dry run complete"

OutcomeT = TypeVar("OutcomeT")
Answer = TypeVar("Answer")


async def dry_run(
    engine: EnginePool,
    request: Request[OutcomeT],
    *,
    client: ClusterClient,
    preflight: Preflight,
    settings: Settings,
    project_id: str,
    what: str,
    revision: int = 1,
    merged_values: dict[str, Any] | None = None,
    owns_namespace: bool = False,
) -> OutcomeT:
    """Return what Helm would make of the request; InvalidRequest with the reason why not, or with the limit exceeded.

    The reason is Helm's own, or the preflight's. ``project_id`` shares the engine with other projects; ``what`` names
    what was tried; ``revision`` and ``merged_values`` are the expected result. Raises Busy if no engine is free.
    """
    limits = settings.engine

    async def ask(wanted: Request[Answer]) -> Answer:
        return await engine.run(
            wanted,
            deadline_seconds=limits.answer_seconds,
            queue_seconds=limits.queue_seconds,
            share=project_id,
        )

    problem = None
    try:
        if isinstance(request, InstallRequest | UpgradeRequest):
            problem = await preflight.find_problem(
                ask,
                client,
                request,
                revision=revision,
                merged_values=merged_values or {},
                owns_namespace=owns_namespace,
            )
        if problem is None:
            return await ask(request)
    except HelmError as error:
        text = await preflight.explain(client, error)
        if isinstance(request, InstallRequest | UpgradeRequest):
            text = await without_secret_data(text, chart=request.chart, client=client, limits=settings.charts)
        raise InvalidRequest(f"dry run: {text}") from None
    except EngineTimeout as error:
        raise InvalidRequest(f"dry run: {what} was stopped after {limits.answer_seconds:g} s, the limit") from error
    except EngineCrashed as error:
        raise InvalidRequest(f"dry run: {what} failed: {error}") from error
    raise InvalidRequest(f"dry run: {problem}")

"""Dry runs: answered at once by an engine of this process, against the cluster, and nothing is stored."""

from typing import TypeVar

from pilothouse.cluster.client import ClusterClient
from pilothouse.engine.base import InstallRequest, Request, UpgradeRequest
from pilothouse.engine.pool import EnginePool
from pilothouse.errors import EngineCrashed, EngineTimeout, HelmRefused, InvalidRequest
from pilothouse.services.secret_data import without_secret_data
from pilothouse.settings import Settings

#: Helm's own words.
DRY_RUN_COMPLETE = "Dry run complete"

OutcomeT = TypeVar("OutcomeT")


async def dry_run(
    engine: EnginePool, request: Request[OutcomeT], *, client: ClusterClient, settings: Settings, what: str
) -> OutcomeT:
    """What Helm would make of the request; InvalidRequest with Helm's reason, or with the limit that was passed.

    ``what`` names what was tried. Raises Busy when no engine is free.
    """
    limits = settings.engine
    try:
        return await engine.run(request, deadline_seconds=limits.answer_seconds, queue_seconds=limits.queue_seconds)
    except HelmRefused as error:
        text = str(error)
        if isinstance(request, InstallRequest | UpgradeRequest):
            text = await without_secret_data(text, chart=request.chart, client=client, limits=settings.charts)
        raise InvalidRequest(f"dry run: {text}") from None
    except EngineTimeout as error:
        raise InvalidRequest(f"dry run: {what} was stopped after {limits.answer_seconds:g} s, the limit") from error
    except EngineCrashed as error:
        raise InvalidRequest(f"dry run: {what} failed: {error}") from error

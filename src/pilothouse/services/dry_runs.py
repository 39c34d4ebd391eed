"""Dry runs: answered at once by an engine of this process, against the cluster, and nothing is stored."""

from typing import TypeVar

from pilothouse.engine.base import Request
from pilothouse.engine.pool import EnginePool
from pilothouse.errors import EngineCrashed, EngineTimeout, HelmRefused, InvalidRequest
from pilothouse.settings import EngineSettings

#: Helm's own words.
DRY_RUN_COMPLETE = "Dry run complete"

OutcomeT = TypeVar("OutcomeT")


async def dry_run(engine: EnginePool, request: Request[OutcomeT], *, settings: EngineSettings, what: str) -> OutcomeT:
    """What Helm would make of the request; InvalidRequest with Helm's reason, or with the limit that was passed.

    ``what`` names what was tried. Raises Busy when no engine is free.
    """
    try:
        return await engine.run(request, deadline_seconds=settings.answer_seconds, queue_seconds=settings.queue_seconds)
    except HelmRefused as error:
        raise InvalidRequest(f"dry run: {error}") from error
    except (EngineCrashed, EngineTimeout) as error:
        raise InvalidRequest(f"dry run: {what} failed: {error}") from error

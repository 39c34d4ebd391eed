"""Periodic tasks of a worker. No failure in them may end the worker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from pilothouse.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)


async def keep_doing(chore: Callable[[], Awaitable[object]], *, every_seconds: float, failure: str) -> NoReturn:
    """Run it until cancelled, with that pause; an error is logged as ``failure`` and skips that run.

    This includes unexpected errors: otherwise one bad row, or one bad setting, would end every worker that meets it.
    """
    while True:
        try:
            await chore()
        except DatabaseUnavailable as error:
            log.warning(failure, cause=str(error))
        except Exception:
            log.exception(failure)
        await asyncio.sleep(every_seconds)

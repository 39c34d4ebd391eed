"""What a worker does again and again beside its operations. Nothing that goes wrong with it may end the worker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from pilothouse.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)


async def keep_doing(chore: Callable[[], Awaitable[object]], *, every_seconds: float, failure: str) -> NoReturn:
    """Does it until cancelled, with that pause; an error is logged as ``failure`` and costs that one time.

    An unexpected one too: what one row, or one setting, makes impossible would end every worker that comes to it.
    """
    while True:
        try:
            await chore()
        except DatabaseUnavailable as error:
            log.warning(failure, cause=str(error))
        except Exception:
            log.exception(failure)
        await asyncio.sleep(every_seconds)

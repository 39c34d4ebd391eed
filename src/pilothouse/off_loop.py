"""Runs work whose duration depends on its input size off the event loop, so that it does not block others."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

#: Less is done in a fraction of a millisecond, about what a thread costs.
_LARGE: Final = 64 * 1024

Result = TypeVar("Result")


async def off_loop(work: Callable[[], Result], *, size: int) -> Result:
    """Return the result of the work: in a thread if it handles many bytes."""
    return await asyncio.to_thread(work) if size > _LARGE else work()

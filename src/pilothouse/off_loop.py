"""Keeps work that takes longer the more it is given off the event loop, where everybody else would wait for it."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

#: Less is done in a fraction of a millisecond, about what a thread costs.
_LARGE: Final = 64 * 1024

Result = TypeVar("Result")


async def off_loop(work: Callable[[], Result], *, size: int) -> Result:
    """Return what the work gives: in a thread if the bytes that it handles are many."""
    return await asyncio.to_thread(work) if size > _LARGE else work()

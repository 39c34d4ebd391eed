"""Masks secrets off the event loop.

Preparing many secrets takes a tenth of a second, in portions of some milliseconds in which no other thread runs. So a
process does it in one thread at a time: portions of several threads would add up, and block the loop as long.
"""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from pilothouse.redaction import Masks, has_few

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

#: A short text costs less than the way to the thread.
_SHORT: Final = 4096
_turns: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]] = WeakKeyDictionary()


async def in_masking_thread(
    work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Return the result of ``work`` in the masking thread; keep it short, because others wait for their turn."""
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        return await asyncio.to_thread(work, *args, **kwargs)


async def prepare(collect: Callable[[], Masks], *values: object) -> Masks:
    """Return the masks that ``collect`` makes of these values, prepared; few do not wait for those of others."""
    if has_few(*values):
        return collect().prepare()
    return await in_masking_thread(lambda: collect().prepare())


async def mask(masks: Masks, text: str) -> str:
    """Return the text without the secrets."""
    if len(text) <= _SHORT and masks.ready:
        return masks.apply(text)
    return await in_masking_thread(masks.apply, text)

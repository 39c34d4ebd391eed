"""Concurrent requests of which only those that end in time count."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def gather_in_time(
    work: Iterable[Coroutine[Any, Any, ResultT]], *, seconds: float
) -> list[asyncio.Task[ResultT]]:
    """Return the ended tasks in the order of ``work``; those that took longer are cancelled."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tasks

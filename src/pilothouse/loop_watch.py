"""Measures how long the event loop was blocked: while one request computes, no other is answered."""

import asyncio
import time
from collections import deque
from typing import Any, Final

import structlog

_TICK_SECONDS: Final = 0.01
REMEMBERED_SECONDS: Final = 60
#: From here on a hold is logged: no request may do that.
_LOGGED_SECONDS: Final = 0.25

log = structlog.get_logger(__name__)


def log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log errors that no task of ours receives; a broken connection of a peer is no error and needs no traceback.

    uvloop raises when it has to write the end of a TLS session to a peer that has closed the connection.
    """
    error = context.get("exception")
    if isinstance(error, RuntimeError) and "handler is closed" in str(error):
        log.info("connection_broke", cause="the peer closed it while it was written to")
    else:
        loop.default_exception_handler(context)


class LoopWatch:
    """Tick a hundred times a second; the excess time between two ticks is how long the loop was blocked."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._longest: deque[tuple[int, float]] = deque(maxlen=REMEMBERED_SECONDS)

    def start(self) -> None:
        """Start ticking in the running loop, and log its errors."""
        asyncio.get_running_loop().set_exception_handler(log_loop_error)
        self._task = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Stop ticking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def longest_seconds(self, last: int = REMEMBERED_SECONDS) -> float:
        """Return the longest block of the last ``last`` seconds, including the current one."""
        since = int(time.monotonic()) - last
        return max((held for second, held in self._longest if second >= since), default=0.0)

    async def _tick(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            held, second, before = now - before - _TICK_SECONDS, int(now), now
            if held > _LOGGED_SECONDS:
                log.warning("loop_held", milliseconds=round(held * 1000))
            if self._longest and self._longest[-1][0] == second:
                self._longest[-1] = (second, max(held, self._longest[-1][1]))
            else:
                self._longest.append((second, held))

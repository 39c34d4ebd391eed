"""Waiting for changes of operations without polling.

PostgreSQL announces every event and every end when it is committed, to every replica. A notification is a hint: the
answer is always read from the database, and a lost notification costs a few seconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import structlog

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store import operations
from pilothouse.store.database import Database

log = structlog.get_logger(__name__)

#: How long a lost announcement, or a change that another program made, stays unseen.
_LOOK_SECONDS = 2.0
_RECONNECT_SECONDS = 1.0

Found = TypeVar("Found")


class Notifications:
    """Wake waiters of this process when a release or an operation changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closed = False

    async def listen(self) -> None:
        """Dispatch notifications until cancelled, reconnecting when the connection breaks."""
        while True:
            try:
                async for key in self._database.notifications(operations.EVENTS_CHANNEL):
                    self._wake(key)
            except DatabaseUnavailable as error:
                log.warning("notifications_lost", cause=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    def close(self) -> None:
        """Stop all waiting: every pending ``look`` is the last one."""
        self.closed = True
        for key in list(self._waiting):
            self._wake(key)

    async def wait_until_settled(
        self,
        look: Callable[[], Awaitable[Found]],
        *,
        is_settled: Callable[[Found], bool],
        cluster_id: str,
        namespace: str,
        name: str,
        seconds: float,
    ) -> Found:
        """Poll ``look`` until the release is settled or ``seconds`` elapse; return the last result.

        Calls ``look`` at least once; an exception from it ends the wait.
        """
        until = time.monotonic() + seconds
        with self.subscribe(operations.release_key(cluster_id, namespace, name)) as event:
            while True:
                event.clear()  # before the look: what ends after it was begun wakes us up
                found = await look()
                left = until - time.monotonic()
                if is_settled(found) or left <= 0 or self.closed:
                    return found
                await self.wait(event, seconds=left)

    async def wait(self, event: asyncio.Event, *, seconds: float = _LOOK_SECONDS) -> None:
        """Return when it is time to look again: news arrived, it may have been lost, or ``seconds`` elapsed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, _LOOK_SECONDS)):
                await event.wait()

    @contextmanager
    def subscribe(self, key: str) -> Iterator[asyncio.Event]:
        """Return an event that is set when the object named by the key changes."""
        event = asyncio.Event()
        self._waiting.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            others = self._waiting[key]
            others.discard(event)
            if not others:
                del self._waiting[key]

    def _wake(self, key: str) -> None:
        for event in self._waiting.get(key, ()):
            event.set()

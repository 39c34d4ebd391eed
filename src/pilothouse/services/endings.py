"""Waiting for operations to end, without asking again and again.

PostgreSQL announces every ending when it is committed, to whichever replica a caller is connected to. An
announcement is a hint: what is answered is always what a look finds, and a lost one costs a few seconds.
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


class Endings:
    """Tells those who wait in this process that an operation on their release has ended."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    async def listen(self) -> None:
        """Passes announcements on until cancelled, reconnecting when the connection breaks."""
        while True:
            try:
                async for release in self._database.notifications(operations.ENDED_CHANNEL):
                    self._wake(release)
            except DatabaseUnavailable as error:
                log.warning("announcements_lost", cause=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    def close(self) -> None:
        """From now on nobody waits: every waiting look is the last one."""
        self._closed = True
        for release in list(self._waiting):
            self._wake(release)

    async def settled(
        self,
        look: Callable[[], Awaitable[Found]],
        *,
        is_settled: Callable[[Found], bool],
        cluster_id: str,
        namespace: str,
        name: str,
        seconds: float,
    ) -> Found:
        """What ``look`` finds of that release once it is settled, or after ``seconds`` as it then is.

        At least one look is made, and what it raises ends the wait.
        """
        until = time.monotonic() + seconds
        with self._expecting(operations.release_key(cluster_id, namespace, name)) as ended:
            while True:
                ended.clear()  # before the look: what ends after it was begun wakes us up
                found = await look()
                left = until - time.monotonic()
                if is_settled(found) or left <= 0 or self._closed:
                    return found
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), min(left, _LOOK_SECONDS))

    @contextmanager
    def _expecting(self, release: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting.setdefault(release, set()).add(event)
        try:
            yield event
        finally:
            others = self._waiting[release]
            others.discard(event)
            if not others:
                del self._waiting[release]

    def _wake(self, release: str) -> None:
        for event in self._waiting.get(release, ()):
            event.set()

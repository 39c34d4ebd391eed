"""How accepted operations reach a worker: the operations table itself is the queue.

An operation is accepted by inserting its row, which also sends NOTIFY; a worker takes the due row whose turn is next
(``store.submit`` gives the turns) with ``FOR UPDATE SKIP LOCKED``, past the projects and API servers that have as
many at work as they may (``store.takes.Caps``). There is one truth, the row, and nothing else to
reconcile with it.
Why not a queue library: docs/decisions/0001-dispatch.md.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress

import structlog

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store import operations, takes
from pilothouse.store.database import Database

log = structlog.get_logger(__name__)


class Queue:
    """One worker's view of the queue: take work, and wait until there may be some."""

    def __init__(self, database: Database, *, poll_seconds: float, caps: takes.Caps = takes.NO_CAPS) -> None:
        self._database = database
        self._caps = caps
        self._poll_seconds = poll_seconds
        self._taking = asyncio.Lock()
        self._news: asyncio.Queue[None] = asyncio.Queue(maxsize=1)

    async def take(
        self, *, worker: str, lease_seconds: float, besides: Collection[str] = ()
    ) -> operations.OperationRow | None:
        """The due operation whose turn it is, now held by this worker under a lease; None when nothing is due.

        The operations ``besides`` need no place of this worker.
        """
        # One after the other, so that a take sees what the one before it took: the caps hold exactly.
        async with self._taking, self._database.autocommit() as connection:
            row = await takes.take(
                connection, worker=worker, lease_seconds=lease_seconds, caps=self._caps, besides=besides
            )
        if row is not None:
            self._pass_on()
        return row

    async def wait(self) -> None:
        """Returns when an operation was announced, or after the poll interval, which covers a lost notification.

        An announcement wakes one of those who wait; whoever then finds something to take wakes the next.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._news.get()

    async def listen(self) -> None:
        """Turns notifications into wake-ups until cancelled, reconnecting when the connection breaks."""
        while True:
            try:
                async for _ in self._database.notifications(operations.CHANNEL):
                    self._pass_on()
            except DatabaseUnavailable as error:
                log.warning("notifications_lost", cause=str(error))
            await asyncio.sleep(self._poll_seconds)

    def _pass_on(self) -> None:
        with suppress(asyncio.QueueFull):
            self._news.put_nowait(None)

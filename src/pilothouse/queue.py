"""The queue of accepted operations: the operations table itself.

An operation is accepted by inserting its row, which also sends NOTIFY; a worker takes the due row whose turn is next
(``store.submit`` assigns the turns) with ``FOR UPDATE SKIP LOCKED``, skipping projects and API servers at their limits
(``store.takes.Caps``). The row is the only truth, and nothing else has to be reconciled with it. Why not a queue
library: docs/decisions/0001-dispatch.md.
"""

import asyncio
from collections import Counter
from collections.abc import Collection
from contextlib import suppress

import structlog

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store import operations, takes
from pilothouse.store.database import Database

log = structlog.get_logger(__name__)


class Queue:
    """One worker's view of the queue: take operations, and wait for new ones."""

    def __init__(self, database: Database, *, poll_seconds: float, caps: takes.Caps = takes.NO_CAPS) -> None:
        self._database = database
        self._caps = caps
        self._poll_seconds = poll_seconds
        self._taking = asyncio.Lock()
        self._news: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
        self._freed: Counter[tuple[str, str]] = Counter()

    async def take(
        self, *, worker: str, lease_seconds: float, besides: Collection[str] = ()
    ) -> operations.OperationRow | None:
        """Return the due operation whose turn it is, now held under a lease; None if nothing is due.

        The operations ``besides`` need no slot of this worker.
        """
        # One after the other, so that a take sees what the one before it took: the caps hold exactly.
        async with self._taking, self._database.autocommit() as connection:
            taken = await takes.take(
                connection, worker=worker, lease_seconds=lease_seconds, caps=self._caps, besides=besides
            )
        if taken is None:
            self._freed.clear()
            return None
        of_limits = _limits_of(taken.row)
        if not taken.more:
            self._freed.clear()
        elif self._freed[of_limits] > 0:  # as many are held as before the other one ended, when nothing could be taken
            self._freed[of_limits] -= 1
        else:
            self._pass_on()
        return taken.row

    def note_end(self, row: operations.OperationRow) -> None:
        """Record that this worker no longer holds the operation: one like it takes its place without waking others."""
        if not row.crashes:  # else it may have kept others away
            self._freed[_limits_of(row)] += 1

    async def wait(self) -> None:
        """Return when an operation was announced, or after the poll interval, which covers lost notifications.

        A notification wakes one waiter. If that one takes something and more is due, it wakes the next, unless what it
        took only replaces an operation that has ended.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._news.get()

    async def listen(self) -> None:
        """Turn notifications into wake-ups until cancelled, reconnecting when the connection breaks."""
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


def _limits_of(row: operations.OperationRow) -> tuple[str, str]:
    """Return what the limits count the operation for."""
    return row.project_id, row.api_server

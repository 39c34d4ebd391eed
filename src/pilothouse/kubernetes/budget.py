"""Limits of reading clusters: seconds and bytes per request, and bytes that a process holds at a time.

A cluster's API server is untrusted, and one request reads from it many times, so a limit per answer is not enough. The
budget is found through the context, so that every read counts, whatever code and task makes it. Workers and observers
have their own deadlines and no budget, but share the same room.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from pilothouse.errors import Busy, CallerGone, ClusterUnavailable

_MIB = 1024 * 1024
_current: ContextVar["Budget | None"] = ContextVar("cluster_budget", default=None)
_pace: ContextVar["Pace | None"] = ContextVar("cluster_pace", default=None)


class Room:
    """Bytes of cluster answers that this process holds, shared fairly between API servers."""

    def __init__(self, *, each: int, total: int) -> None:
        self._each = each
        self._total = total
        self._held: dict[str, int] = {}

    def take(self, server: str, size: int) -> None:
        """Reserve the bytes; raise Busy if this server has used its share, or all servers together everything."""
        held = self._held.get(server, 0) + size
        full = sum(self._held.values()) + size > self._total
        if held > self._each or (full and held > self._total // max(1, len(self._held))):
            raise Busy(f"{server} sends too much at once: other requests are reading it; retry")
        self._held[server] = held

    def give_back(self, server: str, size: int) -> None:
        """End a reservation."""
        left = self._held.get(server, 0) - size
        if left > 0:
            self._held[server] = left
        else:
            self._held.pop(server, None)


class Budget:
    """Limits of all cluster reads of one request together."""

    def __init__(self, *, seconds: float, most_bytes: int, on_first_read: Callable[[], None] | None = None) -> None:
        """``seconds`` count while a read is under way; ``on_first_read`` is called once, before the first."""
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._on_first_read = on_first_read
        self._spent_seconds = 0.0
        self._spent_bytes = 0
        self._reads = 0
        self._since = 0.0
        self._running: set[asyncio.Timeout] = set()
        self._place: tuple[Room, str] | None = None
        self._held = 0
        self._abandoned = False

    def abandon(self) -> None:
        """End every read under way and refuse further ones: the caller is gone."""
        self._abandoned = True
        now = asyncio.get_running_loop().time()
        for timeout in self._running:
            if not timeout.expired():
                timeout.reschedule(now)

    def count(self, size: int, *, of: str) -> None:
        """Count bytes that were read, or decompressed from what was read; raise ClusterUnavailable beyond the limit."""
        if self._abandoned:
            raise CallerGone
        self._spent_bytes += size
        if self._spent_bytes > self._most_bytes:
            raise ClusterUnavailable(
                f"{of} takes more than {self._most_bytes // _MIB} MiB in one request, the limit "
                "(PILOTHOUSE_CLUSTER__REQUEST_BYTES)"
            )

    def hold(self, size: int) -> None:
        """Reserve memory until the end of the request, for data kept of the last server's answers; raise Busy."""
        if self._place is not None:
            room, server = self._place
            room.take(server, size)
            self._held += size

    def close(self) -> None:
        """Release what was reserved."""
        self._move(None)

    def read_from(self, room: Room, server: str) -> None:
        """Record the server that data kept from now on comes from."""
        if self._place != (room, server):
            self._move((room, server))

    def _move(self, place: tuple[Room, str] | None) -> None:
        if self._place is not None and self._held:
            room, server = self._place
            room.give_back(server, self._held)
        self._place, self._held = place, 0

    @asynccontextmanager
    async def limited(self, seconds: float) -> AsyncIterator[None]:
        """Limit what is inside to ``seconds`` or the rest of the budget.

        Raises TimeoutError, or CallerGone if the budget was abandoned.
        """
        if self._abandoned:
            raise CallerGone
        loop = asyncio.get_running_loop()
        self._begin(loop.time())
        timeout = asyncio.timeout(min(seconds, max(0.0, self._seconds - self._spent_seconds)))
        try:
            async with timeout:
                self._running.add(timeout)
                try:
                    yield
                finally:
                    self._running.discard(timeout)
        except TimeoutError:
            if self._abandoned:
                raise CallerGone from None
            raise
        finally:
            self._reads -= 1
            if not self._reads:
                self._spent_seconds += loop.time() - self._since

    def _begin(self, now: float) -> None:
        if not self._reads:
            self._since = now
        self._reads += 1
        if self._on_first_read is not None:
            begin, self._on_first_read = self._on_first_read, None
            begin()


class Pace:
    """At most so many requests per second, evenly, over all tasks that share it."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._next = 0.0

    async def wait(self) -> None:
        """Return when the next request may begin."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        self._next = at + self._gap
        await asyncio.sleep(at - now)


@contextmanager
def paced(pace: Pace) -> Iterator[None]:
    """Let every request inside wait for its turn."""
    token = _pace.set(pace)
    try:
        yield
    finally:
        _pace.reset(token)


async def wait_for_turn() -> None:
    """Return when a request may begin: at once, unless the context has a pace."""
    pace = _pace.get()
    if pace is not None:
        await pace.wait()


@contextmanager
def budgeted(budget: Budget) -> Iterator[None]:
    """Count every read inside in this budget."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)
        budget.close()


@asynccontextmanager
async def limited(seconds: float) -> AsyncIterator[None]:
    """Limit what is inside to ``seconds``, or less if the budget has less; raise TimeoutError or CallerGone."""
    budget = _current.get()
    if budget is None:
        async with asyncio.timeout(seconds):
            yield
    else:
        async with budget.limited(seconds):
            yield


def keep(size: int, *, unpacked: int = 0) -> None:
    """Reserve memory for data that a request keeps of an answer, and count its decompressed size; raise as both do.

    Without a budget nothing is reserved: such callers keep little, or have a dedicated process.
    """
    budget = _current.get()
    if budget is not None:
        budget.count(unpacked, of="what is read of the cluster")
        budget.hold(size)


class Reading:
    """The bytes of one answer while it is read."""

    def __init__(self, room: Room, server: str) -> None:
        self._room = room
        self._server = server
        self._budget = _current.get()
        self._taken = 0
        if self._budget is not None:
            self._budget.read_from(room, server)

    def spend(self, size: int) -> None:
        """Count bytes; raise Busy, ClusterUnavailable or CallerGone when a limit is reached.

        Without a budget nobody is answered that he is to ask again: what other readers hold is gone in a moment, and
        workers and observers try again after ClusterUnavailable.
        """
        if self._budget is not None:
            self._budget.count(size, of=self._server)
        try:
            self._room.take(self._server, size)
        except Busy as error:
            if self._budget is not None:
                raise
            raise ClusterUnavailable(str(error)) from error
        self._taken += size

    def close(self) -> None:
        """Release what was reserved: the answer has been parsed, or dropped."""
        if self._taken:
            self._room.give_back(self._server, self._taken)
            self._taken = 0

"""Fair sharing of scarce resources of a process: slots assigned in turn, counts with limits, rates, and throughput.

Keys identify the sharer: a project, a user, an address. Everything here belongs to one event loop.
"""

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from pilothouse.errors import Busy

_MOST_KEYS: Final = 20_000


class FairSlots:
    """Slots that are assigned in turn: each waiting key gets one before any key gets a second.

    No key holds all of them, unless there is only one slot, which rotates.
    """

    def __init__(
        self, slots: int, *, what: str, most_waiting: int, most: int | None = None, whose: str = "this project"
    ) -> None:
        """Limit a key to ``most`` slots and ``most_waiting`` waiters; ``what`` names the resource in errors.

        ``whose`` names the key there.
        """
        self._free = slots
        self._most = most if most is not None else max(1, slots - 1)
        self._most_waiting = most_waiting
        self._what = what
        self._whose = whose
        self._held: Counter[str] = Counter()
        # In the order of the turns: who was served goes to the end.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def acquire(self, key: str, *, seconds: float | None) -> None:
        """Return with a slot for that key, to be released by ``release``; raise Busy after ``seconds`` without one.

        Raises at once if too many callers of that key wait already.
        """
        if self._may_have(key):
            self._give(key)
            return
        line = self._waiting.setdefault(key, deque())
        if len(line) >= self._most_waiting:
            raise Busy(f"{self._what}, and {len(line)} requests of {self._whose} are already waiting; retry shortly")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            self._leave(key, waiter)
            raise Busy(f"{self._what}; retry shortly") from None
        except asyncio.CancelledError:
            self._leave(key, waiter)
            raise

    def release(self, key: str) -> None:
        """Release a slot of that key; the next waiter gets it."""
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        self._free += 1
        self._serve()

    @asynccontextmanager
    async def hold(self, key: str, *, seconds: float | None) -> AsyncIterator[None]:
        """Hold a slot for the block; raise Busy as ``acquire`` does."""
        await self.acquire(key, seconds=seconds)
        try:
            yield
        finally:
            self.release(key)

    def _may_have(self, key: str) -> bool:
        return self._free > 0 and self._held[key] < self._most

    def _give(self, key: str) -> None:
        self._held[key] += 1
        self._free -= 1

    def _serve(self) -> None:
        while (key := next((key for key in self._waiting if self._may_have(key)), None)) is not None:
            line = self._waiting.pop(key)
            waiter = line.popleft()
            if line:
                self._waiting[key] = line
            if not waiter.done():
                self._give(key)
                waiter.set_result(None)

    def _leave(self, key: str, waiter: "asyncio.Future[None]") -> None:
        """Stop waiting; a slot that was assigned at the same moment goes to the next."""
        if waiter.done() and not waiter.cancelled():
            self.release(key)
            return
        line = self._waiting.get(key)
        if line is not None and waiter in line:
            line.remove(waiter)
            if not line:
                del self._waiting[key]


class Counted:
    """A resource of which each key, and all keys together, can hold a limited amount at a time."""

    def __init__(self, *, what: str, per_key: int, whose: str, in_all: int | None = None) -> None:
        """Name the counted resource (plural) ``what``, and a key in errors ``whose``."""
        self._what = what
        self._per_key = per_key
        self._whose = whose
        self._in_all = in_all
        self._held: Counter[str] = Counter()

    def add(self, key: str, count: int) -> None:
        """Count that many more for the key; raise Busy, and count nothing, if that exceeds a limit."""
        if self._held[key] + count > self._per_key:
            raise Busy(f"{self._whose} has as many {self._what} as it may ({self._per_key}); try again later")
        if self._in_all is not None and self._held.total() + count > self._in_all:
            raise Busy(f"this server has as many {self._what} as it may ({self._in_all}); try again later")
        self._held[key] += count

    def remove(self, key: str, count: int) -> None:
        """Count that many less."""
        self._held[key] -= count
        if self._held[key] <= 0:
            del self._held[key]

    @contextmanager
    def held(self, key: str, count: int = 1) -> Iterator[None]:
        """Count for the block."""
        self.add(key, count)
        try:
            yield
        finally:
            self.remove(key, count)


class Rate:
    """How often each key may do something: a token bucket per key, in bounded memory.

    A bucket is kept as the time at which it is full again, so that one which is full needs no memory.
    """

    def __init__(
        self,
        per_second: float,
        *,
        burst: float,
        what: str,
        whose: str,
        most_keys: int = _MOST_KEYS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Allow ``burst`` at once, at least one, and ``per_second`` in the long run; 0: no limit.

        ``what`` names in errors what is limited (plural), ``whose`` the key.
        """
        self._each_seconds = 1 / per_second if per_second else 0.0
        self._full_seconds = max(burst, 1) * self._each_seconds
        self._text = f"{whose} has sent more {what} than it may ({per_second:g} a second, {max(burst, 1):g} at once)"
        self._most_keys = most_keys
        self._monotonic = monotonic
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> None:
        """Count one for the key; raise Busy, and count nothing, if that is too much."""
        self.check(key)
        self.count(key)

    def check(self, key: str) -> None:
        """Raise Busy if one more is too much now."""
        wait = self._missing_seconds(key) + self._each_seconds - self._full_seconds
        if wait > 0:
            seconds = max(1, math.ceil(wait))
            raise Busy(f"{self._text}; retry in {seconds} s", retry_after_seconds=seconds)

    def count(self, key: str) -> None:
        """Count one that was checked before; several at the same time may take more than there is, but not for long."""
        if not self._each_seconds:
            return
        missing = min(self._missing_seconds(key) + self._each_seconds, 2 * self._full_seconds)
        _remember(self._full_at, key, self._monotonic() + missing, most=self._most_keys)

    def _missing_seconds(self, key: str) -> float:
        """Return how long the bucket takes to be full again."""
        return max(0.0, self._full_at.get(key, 0.0) - self._monotonic())


class Throughput:
    """How much a second each key gets while others are active too: who has had its share is to wait.

    A key that has the server to itself is not limited, and what it took then does not count against it.
    """

    def __init__(
        self,
        per_second: float,
        *,
        burst: float,
        what: str,
        whose: str,
        quiet_seconds: float = 10.0,
        longest_seconds: float = 15.0,
        most_keys: int = _MOST_KEYS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Give each key ``burst`` at once and ``per_second`` in the long run; 0: no limit.

        A key is active until it has asked for nothing for ``quiet_seconds``. ``what`` names in errors what is shared
        (plural), ``whose`` the key.
        """
        self._text = (
            f"{whose} has sent more {what} than its share ({per_second:g} a second) while others send some, too"
        )
        self._per_second = per_second
        self._full_seconds = burst / per_second if per_second else 0.0
        self._quiet_seconds = quiet_seconds
        self._longest_seconds = longest_seconds
        self._most_keys = most_keys
        self._monotonic = monotonic
        #: When each bucket is full again; in the order of their last request, for the keys that are active.
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._active: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, amount: float) -> float:
        """Count that much, and return the seconds to wait until the key may have it; 0 only shows that it is active.

        Raises Busy, and counts nothing, instead of more than ``longest_seconds``.
        """
        now = self._monotonic()
        _remember(self._active, key, now, most=self._most_keys)
        if not amount or not self._per_second or not self._is_contended(key, now):
            return 0.0
        missing = max(0.0, self._full_at.get(key, 0.0) - now) + amount / self._per_second
        wait = max(0.0, missing - self._full_seconds)
        if wait > self._longest_seconds:
            seconds = math.ceil(wait)
            raise Busy(f"{self._text}; retry in {seconds} s", retry_after_seconds=seconds)
        _remember(self._full_at, key, now + missing, most=self._most_keys)
        return wait

    def _is_contended(self, key: str, now: float) -> bool:
        last = next((self._active[other] for other in reversed(self._active) if other != key), None)
        return last is not None and now - last < self._quiet_seconds


def _remember(times: OrderedDict[str, float], key: str, value: float, *, most: int) -> None:
    """Set a value and make it the last; the first is forgotten when there are more than ``most``."""
    times[key] = value
    times.move_to_end(key)
    if len(times) > most:
        times.popitem(last=False)

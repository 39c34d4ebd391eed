"""A document of another server that is fetched when first needed, again when it is old, and kept if that fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from pilothouse.errors import ProviderUnavailable

T = TypeVar("T")
_NEVER: Final = float("-inf")


class KeptTimes(Protocol):
    """How long a document is used, in seconds; the settings of OIDC are such times."""

    @property
    def fresh_seconds(self) -> float:
        """The age from which on it is fetched again."""
        ...

    @property
    def kept_seconds(self) -> float:
        """The time for which it is used while that fails."""
        ...

    @property
    def retry_seconds(self) -> float:
        """The shortest interval between two fetches."""
        ...


class Kept(Generic[T]):
    """What ``fetch`` returned last; however many ask, one fetch at a time, and one in ``retry_seconds``."""

    def __init__(
        self, fetch: Callable[[], Awaitable[T]], times: KeptTimes, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``fetch`` raises ProviderUnavailable; ``clock`` is monotonic."""
        self._fetch = fetch
        self._times = times
        self._clock = clock
        self._value: T | None = None
        self._fetched_at = self._tried_at = _NEVER
        #: Text and cause: an exception that is raised again and again gathers what its callers hold.
        self._failure: tuple[str, str] = ("it was not asked yet", "")
        self._task: asyncio.Task[None] | None = None

    async def get(self) -> T:
        """Return the document; raise ProviderUnavailable if there is none that is young enough.

        One that is old is returned at once and fetched beside: callers do not wait for a server that hangs.
        """
        age = self._clock() - self._fetched_at
        if self._value is not None and age <= self._times.kept_seconds:
            if age > self._times.fresh_seconds:
                self._begin()
            return self._value
        self._value = None
        task = self._begin()
        if task is not None:
            await asyncio.shield(task)
        if self._value is None:
            text, cause = self._failure
            raise ProviderUnavailable(text, cause=cause)
        return self._value

    async def get_newer(self) -> T:
        """Return the document fetched anew, for what the one at hand lacks; the same if it was fetched just now."""
        task = self._begin()
        if task is not None:
            await asyncio.shield(task)
        return await self.get()

    def _begin(self) -> asyncio.Task[None] | None:
        """Return the fetch under way, a new one, or None: the last one is too young to be repeated."""
        if self._task is not None and not self._task.done():
            return self._task
        if self._clock() - self._tried_at < self._times.retry_seconds:
            return None
        self._tried_at = self._clock()
        self._task = asyncio.create_task(self._run())
        return self._task

    async def _run(self) -> None:
        try:
            self._value = await self._fetch()
        except ProviderUnavailable as failure:
            self._failure = (str(failure), failure.cause)
        else:
            self._fetched_at = self._clock()

    async def close(self) -> None:
        """End a fetch under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

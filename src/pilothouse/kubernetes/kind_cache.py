"""The one cache of what a cluster's discovery answers: which kinds it serves, and how it stores them."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pilothouse.errors import PilothouseError
from pilothouse.kubernetes.client import ClusterClient, ObjectKind

_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class _Answer:
    at: float
    answer: dict[str, ObjectKind] | PilothouseError


class KindCache:
    """Look up kinds; each API group and version is asked for once, however many ask for it at the same time."""

    def __init__(
        self,
        client: ClusterClient,
        *,
        seconds: float | None = None,
        only: Collection[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep every answer and failure as long as the cache lives, for one task; only kinds named by ``only``.

        With ``seconds``, keep answers for so long, but no failure, and ask again for a kind that was not served; who
        waits while another asks is content with its answer or failure.
        """
        self._client = client
        self._seconds = seconds
        self._only = only
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def find(self, group_version: str, kind: str) -> ObjectKind | None:
        """Return how the server stores objects of that kind; None if it does not serve it.

        Raises ClusterUnavailable, ClusterDenied or InvalidRequest.
        """
        before = self._answers.get(group_version)
        async with self._locks.setdefault(group_version, asyncio.Lock()):
            cached = self._answers.get(group_version)
            if cached is None or (cached is before and not self._is_kept(cached, kind)):
                cached = await self._ask(group_version)
        answer = cached.answer
        if isinstance(answer, PilothouseError):
            raise answer.with_traceback(None)  # else each who asks adds frames
        return answer.get(kind)

    def find_known(self, kind: str) -> ObjectKind | None:
        """Find a kind by its name alone in what was looked up; None if no group with it was."""
        answers = (entry.answer for entry in self._answers.values() if not isinstance(entry.answer, PilothouseError))
        return next((answer[kind] for answer in answers if kind in answer), None)

    def _is_kept(self, cached: _Answer, kind: str) -> bool:
        if self._seconds is None:
            return True
        passes = isinstance(cached.answer, PilothouseError) or kind not in cached.answer
        return not passes and self._clock() <= cached.at + self._seconds

    async def _ask(self, group_version: str) -> _Answer:
        answer: dict[str, ObjectKind] | PilothouseError
        try:
            async with self._places:
                kinds = await self._client.list_kinds(group_version)
            answer = {name: kind for name, kind in kinds.items() if self._only is None or name in self._only}
        except PilothouseError as error:
            # its frames hold what was read of the server's answer, and there may be hundreds of groups
            answer = error.with_traceback(None)
            answer.__cause__ = answer.__context__ = None
        cached = self._answers[group_version] = _Answer(self._clock(), answer)
        return cached

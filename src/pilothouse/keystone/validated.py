"""Tokens that Keystone accepted lately, and how often it is asked about others.

Whoever has no token of Keystone can make us ask it about rubbish. Such questions are few at a time, in turns by
address, and end for an address of which too many were refused. Tokens that it accepted before have places of their own,
so strangers do not hold them up.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from pilothouse.auth.attempts import network_of
from pilothouse.errors import Forbidden, NotAuthenticated, ProviderUnavailable
from pilothouse.keystone.client import Keystone
from pilothouse.keystone.documents import KeystoneProvider, KeystoneToken, read_token
from pilothouse.settings import KeystoneSettings
from pilothouse.shares import FairSlots, Rate

_BURST_SECONDS: Final = 20.0
_MOST_WAITING: Final = 50


@dataclass(frozen=True)
class _Known:
    """What Keystone said of a token, and until when that counts, by the monotonic clock."""

    token: KeystoneToken
    until: float


class Validated:
    """Ask Keystone about tokens, and remember what it accepted."""

    def __init__(
        self,
        keystone: Keystone,
        settings: KeystoneSettings,
        provider: KeystoneProvider,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` is monotonic."""
        self._keystone = keystone
        self._settings = settings
        self._provider = provider
        self._clock = clock
        self._wall_clock = wall_clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[KeystoneToken]] = {}
        what = "Keystone is asked about as many tokens as it may be at a time"
        self._slots = FairSlots(settings.requests, what=what, most_waiting=_MOST_WAITING, whose="this token")
        self._strangers = FairSlots(
            settings.requests_of_strangers, what=what, most_waiting=_MOST_WAITING, whose="this address"
        )
        self._refused = Rate(
            settings.refused_per_second,
            burst=settings.refused_per_second * _BURST_SECONDS,
            what="tokens that Keystone refused",
            whose="this address",
            monotonic=clock,
        )

    async def find(self, text: str, source: str) -> KeystoneToken:
        """Return what the token says, as of at most ``cache_seconds`` ago; ``source`` is its sender's address.

        Raises NotAuthenticated or Forbidden, Busy for an address with too many that were refused, and
        ProviderUnavailable. However many ask about a token at a time, Keystone is asked once.
        """
        if len(text) > self._settings.token_bytes:
            raise NotAuthenticated(f"decrypt token fail, it is longer than {self._settings.token_bytes} bytes")
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known.until and self._wall_clock() < known.token.identity.expires_at:
            self._known.move_to_end(digest)
            return known.token
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.create_task(self._ask(text, digest, network_of(source)))
            task.add_done_callback(lambda ended: self._end(digest, ended))
        return await asyncio.shield(task)

    async def _ask(self, text: str, digest: str, network: str) -> KeystoneToken:
        is_stranger = digest not in self._known
        async with self._place(digest, network, is_stranger=is_stranger):
            if is_stranger:
                self._refused.check(network)
            asked_at = self._clock()
            try:
                token = read_token(await self._keystone.validate(text), self._provider)
            except (NotAuthenticated, Forbidden, ProviderUnavailable) as error:
                if not isinstance(error, ProviderUnavailable):
                    self._known.pop(digest, None)
                if is_stranger:  # Keystone answers some rubbish with 500
                    self._refused.count(network)
                raise
        self._known[digest] = _Known(token, asked_at + self._settings.cache_seconds)
        self._known.move_to_end(digest)
        if len(self._known) > self._settings.cached_tokens:
            self._known.popitem(last=False)
        return token

    def _place(self, digest: str, network: str, *, is_stranger: bool) -> AbstractAsyncContextManager[None]:
        if is_stranger:
            return self._strangers.hold(network, seconds=self._settings.answer_seconds)
        return self._slots.hold(digest, seconds=self._settings.answer_seconds)

    def _end(self, digest: str, task: "asyncio.Task[KeystoneToken]") -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # whoever asked may be gone

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._keystone.close()

"""Kinds that a cluster serves and rights of an account there, cached for some minutes.

Only positive answers are cached: an unserved kind, or a missing right, is checked again each time.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pilothouse.errors import ClusterDenied
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.kind_cache import KindCache

_AT_ONCE = 8
_MOST_REMEMBERED = 20_000
_ANY = "*"


@dataclass(frozen=True)
class ResourceAccess:
    """One permission of an account; ``namespace`` is empty for cluster-wide objects or for all namespaces."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.verb} {self.resource}" + (f".{self.group}" if self.group else "")
        return f"{what} in namespace {self.namespace!r}" if self.namespace else f"{what} in the whole cluster"


class Capabilities:
    """The capabilities of one account in one cluster, and its ``kinds``.

    Lookups raise ClusterUnavailable or ClusterDenied.
    """

    def __init__(self, client: ClusterClient, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Cache answers for ``seconds``."""
        self._client = client
        self._seconds = seconds
        self._clock = clock
        self.kinds = KindCache(client, seconds=seconds, clock=clock)
        self._allowed: dict[ResourceAccess, float] = {}
        self._limited_until = 0.0

    async def find_missing(self, accesses: Iterable[ResourceAccess]) -> list[ResourceAccess]:
        """Return those of the rights that the account does not have now, in order."""
        unknown = [access for access in dict.fromkeys(accesses) if not self._knows(replace(access, name=""))]
        if not unknown or await self._may_do_everything():
            return []
        places = asyncio.Semaphore(_AT_ONCE)

        async def may(access: ResourceAccess) -> bool:
            async with places:
                return await self._may(access)

        general = list(dict.fromkeys(replace(access, name="") for access in unknown))
        refused = {
            access for access, yes in zip(general, await asyncio.gather(*map(may, general)), strict=True) if not yes
        }
        # a role may name the very objects that it is for
        rest = [access for access in unknown if replace(access, name="") in refused]
        answers = await asyncio.gather(*(may(access) for access in rest if access.name))
        named = {access for access, yes in zip((access for access in rest if access.name), answers, strict=True) if yes}
        return [access for access in rest if access not in named]

    async def _may_do_everything(self) -> bool:
        """Return True if the account may do everything; checked first, because it is true for most accounts."""
        everything = ResourceAccess(_ANY, _ANY, _ANY, "")
        if self._knows(everything):
            return True
        if self._clock() < self._limited_until:
            return False
        if await self._may(everything):
            return True
        self._limited_until = self._clock() + self._seconds
        return False

    def _knows(self, access: ResourceAccess) -> bool:
        return self._allowed.get(access, 0.0) > self._clock()

    async def _may(self, access: ResourceAccess) -> bool:
        try:
            allowed = await self._client.review_access({key: value for key, value in vars(access).items() if value})
        except ClusterDenied:
            return True  # an account that may not even ask: what it may do is found out by doing it
        if allowed and not access.name:
            if len(self._allowed) >= _MOST_REMEMBERED:
                self._allowed.clear()
            self._allowed[access] = self._clock() + self._seconds
        return allowed

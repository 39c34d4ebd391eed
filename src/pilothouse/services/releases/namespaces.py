"""Existence of namespaces, for requests that create something in them."""

import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

from pilothouse.kubernetes.client import ClusterClient

#: One that goes away within this time is found out by Helm: the operation fails, and its text names the namespace.
_REMEMBER_SECONDS = 5.0
_MOST_PER_CLUSTER = 1000


class Namespaces:
    """Query the cluster, and cache positive answers briefly: many releases go into few namespaces."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: WeakKeyDictionary[ClusterClient, dict[str, float]] = WeakKeyDictionary()

    async def exists(self, client: ClusterClient, name: str) -> bool:
        """Return True if the namespace exists, or did a few seconds ago; raise what the client raises."""
        seen = self._seen.setdefault(client, {})
        now = self._monotonic()
        if seen.get(name, 0.0) > now:
            return True
        if not await client.namespace_exists(name):
            seen.pop(name, None)
            return False
        if len(seen) >= _MOST_PER_CLUSTER:
            seen.clear()
        seen[name] = now + _REMEMBER_SECONDS
        return True

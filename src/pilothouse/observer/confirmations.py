"""What clusters confirmed without any change: collected, and written for all of them in one statement.

Of a quiet cluster that is all there is to write, so that many of them cost the database no more than a few.
"""

import time
from collections.abc import Callable

from pilothouse.store import cluster_watches
from pilothouse.store.cluster_watches import Confirmation
from pilothouse.store.database import Transaction


class Confirmations:
    """The last confirmation of each cluster that is not written yet; if it is lost, only the index looks older."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, tuple[float, int, int]] = {}

    def add(self, cluster_id: str, *, epoch: int, resource_version: int) -> None:
        """Note that the cluster just confirmed that everything up to this resourceVersion is in the index."""
        self._waiting[cluster_id] = (self._clock(), epoch, resource_version)

    def drop(self, cluster_id: str) -> None:
        """Forget what the cluster confirmed, because something else is true of it now."""
        self._waiting.pop(cluster_id, None)

    async def write(self, tx: Transaction) -> None:
        """Write what was noted since the last time."""
        waiting, self._waiting = self._waiting, {}
        now = self._clock()
        confirmations = [
            Confirmation(cluster_id, epoch, resource_version, now - at)
            for cluster_id, (at, epoch, resource_version) in waiting.items()
        ]
        await cluster_watches.note_confirmations(tx, confirmations)

"""One observer process: which clusters it watches, together with other observers.

Each round, and whenever a cluster is added, removed or given back, an observer reports that it is alive, renews its
leases, gives back what exceeds its share and takes unwatched clusters. If it dies it stops renewing, and the others
take over.
"""

import asyncio
import os
import socket
import uuid
from contextlib import suppress

import structlog

from pilothouse.errors import DatabaseUnavailable
from pilothouse.observer.confirmations import Confirmations
from pilothouse.observer.drift import DriftLooks
from pilothouse.observer.watcher import Watcher
from pilothouse.services.clusters import Clusters
from pilothouse.services.releases.index import ReleaseIndex
from pilothouse.settings import ObserverSettings
from pilothouse.store import cluster_watches, release_index
from pilothouse.store import drift as drift_store
from pilothouse.store.database import Database, Transaction

log = structlog.get_logger(__name__)

_SWEEP_SECONDS = 600.0
#: Pages of lists that are written at a time: fewer than the pool keeps connections, because each new one costs as much
#: as a page. What waits for its cluster does not count.
_PAGES_AT_ONCE = 4


class _Watch:
    """The running watch of one cluster, and the looks at the drift of its releases if those are wanted."""

    def __init__(self, cluster_id: str, watcher: Watcher, looks: DriftLooks | None) -> None:
        self._watcher = watcher
        self._looks = looks
        self.task = asyncio.create_task(self._run(cluster_id), name=f"watch-{cluster_id[:8]}")

    def end(self) -> None:
        """Cancel it; what comes of that is its end, and no failure."""
        self._watcher.end()
        self.task.cancel()

    async def _run(self, cluster_id: str) -> None:
        """Watch the cluster until it is gone."""
        if self._looks is None:
            await self._watcher.run()
            return
        # Begun here: a task that is cancelled before its first step runs no finally, and would leave the looks behind.
        looking = asyncio.create_task(self._looks.run(), name=f"drift-{cluster_id[:8]}")
        try:
            await self._watcher.run()
        finally:
            self._looks.end()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


class Observer:
    """Watch a share of the clusters."""

    def __init__(self, database: Database, clusters: Clusters, index: ReleaseIndex, settings: ObserverSettings) -> None:
        self._database = database
        self._clusters = clusters
        self._index = index
        self._settings = settings
        # Not the process id alone: a successor with the same one must not be taken for its predecessor.
        self._name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._watches: dict[str, _Watch] = {}
        self._confirmations = Confirmations()
        self._turns = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._wake = asyncio.Event()
        self._swept_at: float | None = None
        self._shared_at: float | None = None
        #: It has taken its share of the clusters.
        self.started = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until ``stop`` is set, then release everything at once."""
        helpers = [asyncio.create_task(self._listen()), asyncio.create_task(self._share_for_ever())]
        stopping = asyncio.create_task(stop.wait())
        log.info("observer_started", observer=self._name)
        try:
            done, _ = await asyncio.wait([stopping, *helpers], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            for task in [*helpers, stopping]:
                task.cancel()
            await asyncio.gather(*helpers, stopping, return_exceptions=True)
            await self._stop_watching(set(self._watches))
            await self._leave()
        log.info("observer_stopped", observer=self._name)

    async def not_ready(self) -> str:
        """Return why this observer may not watch its clusters now; empty if it does."""
        if self._shared_at is None:
            return "it has not begun"
        ago = asyncio.get_running_loop().time() - self._shared_at
        return f"it has not renewed its leases for {ago:.0f} s" if ago > self._settings.lease_seconds else ""

    async def _share_for_ever(self) -> None:
        while True:
            try:
                await self._share()
                self._shared_at = asyncio.get_running_loop().time()
                self.started.set()
            except DatabaseUnavailable as error:
                # The leases may lapse and another observer take over: two at the same cluster do no harm.
                log.warning("database_unavailable", cause=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.renew_seconds):
                    await self._wake.wait()
            self._wake.clear()

    async def _share(self) -> None:
        lease = self._settings.lease_seconds
        async with self._database.autocommit() as connection:
            load = await cluster_watches.report(connection, self._name, lease_seconds=lease)
            held = await cluster_watches.renew(connection, self._name, lease_seconds=lease)
            await self._confirmations.write(connection)
            await self._stop_watching(
                {name for name, watch in self._watches.items() if name not in held or watch.task.done()}
            )
            surplus = set(sorted(held)[load.share :])
            if surplus:
                await self._stop_watching(surplus)
                await cluster_watches.give_back(connection, self._name, surplus)
            if room := max(0, load.share - len(held)):
                held |= await cluster_watches.take(connection, self._name, lease_seconds=lease, limit=room)
            for cluster_id in held - surplus - set(self._watches):
                self._start_watching(cluster_id)
            await self._sweep(connection)

    def _start_watching(self, cluster_id: str) -> None:
        watcher = Watcher(
            cluster_id,
            self._database,
            self._clusters,
            self._index,
            self._settings,
            confirmations=self._confirmations,
            turns=self._turns,
        )
        looks = None
        if self._settings.drift_requests_per_second:
            looks = DriftLooks(cluster_id, self._database, self._clusters, self._settings)
        self._watches[cluster_id] = _Watch(cluster_id, watcher, looks)
        log.info("watching", cluster_id=cluster_id)

    async def _stop_watching(self, cluster_ids: set[str]) -> None:
        watches = [self._watches.pop(cluster_id) for cluster_id in cluster_ids]
        for watch in watches:
            watch.end()
        await asyncio.gather(*(watch.task for watch in watches), return_exceptions=True)

    async def _sweep(self, tx: Transaction) -> None:
        now = asyncio.get_running_loop().time()
        if self._swept_at is None or now - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = now
            await release_index.sweep_tombstones(tx)
            await drift_store.sweep_looks(tx)

    async def _listen(self) -> None:
        while True:
            try:
                async for changed in self._database.notifications(cluster_watches.CHANNEL):
                    if changed in self._watches:  # it has other credentials now: the next round begins with them
                        self._watches[changed].end()
                    self._wake.set()
            except DatabaseUnavailable as error:
                log.warning("notifications_lost", cause=str(error))
            await asyncio.sleep(self._settings.renew_seconds)

    async def _leave(self) -> None:
        try:
            async with self._database.transaction() as tx:
                await cluster_watches.leave(tx, self._name)
        except DatabaseUnavailable as error:
            log.warning("database_unavailable", cause=str(error))

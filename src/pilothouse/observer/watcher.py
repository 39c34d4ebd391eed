"""Watches one cluster's Helm storage and updates the index, until told to stop.

A list brings the index to one resourceVersion, a watch applies what follows. Invariants:

- The index is as far as ``cluster_watches.resource_version``: written after, or together with, the rows it covers.
  A watcher that takes over continues from there, and lists again only if the server has forgotten that version (410).
- A resourceVersion that went back means a server restored from a backup: a new epoch begins, in which every row of the
  old one is older than anything read. Nothing disappears until a complete list has shown that it is gone.
- A Secret that cannot be decoded is skipped and does not end the watch.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

import structlog

from pilothouse.errors import Busy, ClusterDenied, ClusterUnavailable, DatabaseUnavailable, NotFound, PilothouseError
from pilothouse.kubernetes.api_client import ListExpired
from pilothouse.kubernetes.client import ClusterClient, Secret
from pilothouse.kubernetes.watch import SecretChange, WatchBatch, watch_releases
from pilothouse.metrics import INDEX_LISTS
from pilothouse.observer.admission import Admission
from pilothouse.observer.confirmations import Confirmations
from pilothouse.observer.notices import Notices
from pilothouse.services.clusters import Clusters
from pilothouse.services.releases.index import ReleaseIndex, see
from pilothouse.settings import ObserverSettings
from pilothouse.store import cluster_watches, clusters
from pilothouse.store import release_index as store
from pilothouse.store.cluster_watches import ClusterWatchRow
from pilothouse.store.database import Database
from pilothouse.store.release_index import DeletedSecret, NewRevision, SeenSecret
from pilothouse.store.texts import sanitize

log = structlog.get_logger(__name__)

_FIRST_RETRY_SECONDS = 0.25
#: Over the window of a watch: the server ends it, so that silence for longer means a dead connection.
_GRACE_SECONDS = 5.0
#: What is gathered waits in memory; each change holds a Secret of up to 1 MiB.
_MOST_GATHERED = 64
_LARGEST_GATHERED = 8 * 1024 * 1024
#: In one watch; a cluster that has more to say waits for the next one.
_MOST_CHANGES = 5000
_LONGEST_LIST_SECONDS = 600.0
#: An index that exceeds its limits is rebuilt this often: deletions may have made room.
_TRUNCATED_SECONDS = 600.0
#: A server that ends each watch at once must not be asked as fast as it can answer.
_SHORTEST_WATCH_SECONDS = 1.0
#: Between two turns of whatever else the process does.
_LONGEST_HOLD_SECONDS = 0.002
_SHORTEST_PART = 0.8

_Found = tuple[SeenSecret, Secret]


class ResourceVersionRegressed(Exception):
    """The cluster's resourceVersion is lower than one seen before: its storage was restored from a backup."""


class Watcher:
    """The watcher of one cluster."""

    def __init__(
        self,
        cluster_id: str,
        database: Database,
        clusters: Clusters,
        index: ReleaseIndex,
        settings: ObserverSettings,
        *,
        confirmations: Confirmations,
        turns: asyncio.Semaphore,
    ) -> None:
        """Share ``turns``, which limit how many pages are written to the index side by side."""
        self._cluster_id = cluster_id
        self._database = database
        self._clusters = clusters
        self._index = index
        self._settings = settings
        self._confirmations = confirmations
        self._turns = turns
        self._notices = Notices(cluster_id)
        self._ending = False
        self._list_due = False
        self._listed_at = 0.0

    def end(self) -> None:
        """Take whatever ``run`` raises from now on for its end: whoever calls this cancels it."""
        self._ending = True

    async def run(self) -> None:
        """Watch until cancelled, or until the cluster is removed; all failures are retried."""
        pause = _FIRST_RETRY_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            began, failed = loop.time(), True
            try:
                if not await self._round():
                    log.info("cluster_gone", cluster_id=self._cluster_id)
                    return
                failed = False
            except Exception as error:  # noqa: BLE001 (all are reported, and it goes on)
                if self._ending:  # libraries may replace the cancel by another exception
                    return
                await self._report(error)
            # Also what succeeds at once is not repeated at once: a server may forget, or go back, again and again.
            if not failed and loop.time() - began > _SHORTEST_WATCH_SECONDS:
                pause = _FIRST_RETRY_SECONDS
                continue
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._settings.retry_seconds)

    async def _report(self, error: Exception) -> None:
        """Say why a round failed."""
        match error:
            case ClusterUnavailable() | ClusterDenied() | Busy():
                await self._note_error(error)
            case DatabaseUnavailable():
                log.warning("database_unavailable", cause=str(error))
            case NotFound():  # the next round ends the watch
                log.info("cluster_removed_meanwhile", cluster_id=self._cluster_id, cause=str(error))
            case _:
                if self._notices.is_due("watch_failed"):
                    log.error("watch_failed", cluster_id=self._cluster_id, exc_info=error)

    async def _round(self) -> bool:
        """List if one is due, then run one window of the watch; return False if the cluster is no longer registered."""
        async with self._database.autocommit() as connection:
            found = await clusters.find_watched(connection, self._cluster_id)
        if found is None:
            return False
        progress, row = found
        client = self._clusters.client(self._clusters.open(self._cluster_id, row))
        try:
            if self._list_due or not progress.resource_version or self._is_stale(progress):
                async with asyncio.timeout(_LONGEST_LIST_SECONDS):
                    await self._list(client, progress)
                return True
            await self._check(client, progress)
            await self._watch(client, progress)
        except TimeoutError as error:
            message = f"the API server did not return a complete list within {_LONGEST_LIST_SECONDS:g} s"
            raise ClusterUnavailable(message) from error
        except ListExpired as error:
            log.debug("watch_expired", cluster_id=self._cluster_id, cause=str(error))
            self._list_due = True
        except ResourceVersionRegressed:
            self._notices.warn("resource_version_went_back", epoch=progress.epoch + 1)
            async with self._database.autocommit() as connection:
                await cluster_watches.begin_epoch(connection, self._cluster_id, after=progress.epoch)
        return True

    async def _check(self, client: ClusterClient, progress: ClusterWatchRow) -> None:
        """Check the current version, because a watch from a future resourceVersion would stay silent, not fail."""
        if await client.newest_resource_version() < progress.resource_version:
            raise ResourceVersionRegressed

    def _is_stale(self, progress: ClusterWatchRow) -> bool:
        return progress.truncated and asyncio.get_running_loop().time() - self._listed_at > _TRUNCATED_SECONDS

    async def _list(self, client: ClusterClient, progress: ClusterWatchRow) -> None:
        """Write what the cluster has to the index, within its limits, and mark what it no longer has as deleted."""
        INDEX_LISTS.inc()
        kept: set[tuple[str, str]] = set()
        admission = Admission(self._cluster_id, self._settings)
        version, decoded = 0, 0
        async with aclosing(client.list_release_pages()) as pages:
            async for page in pages:
                version = page.resource_version
                if version < progress.resource_version:
                    raise ResourceVersionRegressed
                found = [(seen, secret) for secret in page.secrets if (seen := see(secret)) is not None]
                room = self._settings.rows_per_cluster - len(kept)
                admission.truncated |= len(found) > room
                kept.update(_key(seen) for seen, _ in found[:room])
                async with self._turns:
                    decoded += await self._index_page(found[:room], progress, admission)
                if admission.truncated:
                    break
        async with self._database.transaction() as tx:
            await cluster_watches.note_listed(
                tx,
                self._cluster_id,
                epoch=progress.epoch,
                resource_version=version,
                truncated=admission.truncated,
            )
            deleted = await store.mark_missing_deleted(
                tx, self._cluster_id, epoch=progress.epoch, resource_version=version, kept=kept
            )
        self._list_due, self._listed_at = False, asyncio.get_running_loop().time()
        if admission.truncated:
            self._notices.warn("index_truncated", secrets=len(kept))
        log.debug("cluster_listed", cluster_id=self._cluster_id, secrets=len(kept), decoded=decoded, gone=deleted)

    async def _index_page(self, found: Sequence[_Found], progress: ClusterWatchRow, admission: Admission) -> int:
        """Write new revisions of the Secrets to the index, and return their number."""
        rows = await self._read_unknown(found, progress.epoch)
        async with self._database.transaction() as tx:
            await cluster_watches.hold(tx, self._cluster_id)
            await store.apply_revisions(
                tx,
                self._cluster_id,
                await admission.admit(tx, rows),
                epoch=progress.epoch,
                exposing=progress.listed_at is not None,  # of what nobody reads, the end of the list does it once
            )
        return len(rows)

    async def _watch(self, client: ClusterClient, progress: ClusterWatchRow) -> None:
        window = spread_window(self._settings.window_seconds)
        version, changes = progress.resource_version, 0
        admission = Admission(self._cluster_id, self._settings)
        began = asyncio.get_running_loop().time()
        watch = watch_releases(client, since=version, window_seconds=window, idle_seconds=window + _GRACE_SECONDS)
        async with aclosing(watch), aclosing(_gathered(watch, seconds=self._settings.gather_seconds)) as gathered:
            async for batch in gathered:
                if batch.resource_version < version:
                    raise ClusterUnavailable("the API server is behind what it said before")  # or restored: look again
                version = batch.resource_version
                await self._take(batch, progress.epoch, admission)
                changes += len(batch.changes)
                if changes > _MOST_CHANGES:
                    raise ClusterUnavailable(f"the API server sent more than {_MOST_CHANGES} changes in one watch")
        if asyncio.get_running_loop().time() - began < _SHORTEST_WATCH_SECONDS:
            raise ClusterUnavailable("the API server ended the watch at once")

    async def _take(self, batch: WatchBatch, epoch: int, admission: Admission) -> None:
        """Write what arrived together, and in the same transaction how far the index is with it.

        If nothing did, that is written later, with that of other clusters: a change must not wait, because it proves
        what a restored cluster has lost.
        """
        if batch.unreadable:
            self._notices.warn("watch_lines_unreadable", lines=batch.unreadable)
        if not batch.changes:
            self._confirmations.add(self._cluster_id, epoch=epoch, resource_version=batch.resource_version)
            return
        last: dict[tuple[str, str], tuple[SeenSecret, SecretChange]] = {}
        for change in batch.changes:
            if (seen := see(change.secret)) is not None:
                last[_key(seen)] = seen, change
        deleted = [DeletedSecret(**vars(seen)) for seen, change in last.values() if change.gone]
        rows = await self._read_unknown(
            [(seen, change.secret) for seen, change in last.values() if not change.gone], epoch
        )
        several = rows or deleted
        async with self._database.transaction() if several else self._database.autocommit() as tx:
            # first the row that the removal of a cluster deletes first: nobody waits in a circle
            await cluster_watches.note_seen(tx, self._cluster_id, epoch=epoch, resource_version=batch.resource_version)
            await store.apply_revisions(tx, self._cluster_id, await admission.admit(tx, rows), epoch=epoch)
            await store.mark_deleted(tx, self._cluster_id, await admission.admit_deleted(tx, deleted), epoch=epoch)
            if admission.truncated:
                await cluster_watches.note_truncated(tx, self._cluster_id)
                self._notices.warn("index_truncated")

    async def _read_unknown(self, found: Sequence[_Found], epoch: int) -> list[NewRevision]:
        """Return the rows of the Secrets that the index does not have as they are: a worker writes what it read."""
        if not found:
            return []
        async with self._database.autocommit() as connection:
            unknown = await store.list_unknown(connection, self._cluster_id, [seen for seen, _ in found], epoch=epoch)
        return await self._read([secret for secret in found if _key(secret[0]) in unknown])

    async def _read(self, found: Sequence[_Found]) -> list[NewRevision]:
        rows = []
        loop = asyncio.get_running_loop()
        since = loop.time()
        for seen, secret in found:
            row = self._index.read(self._cluster_id, secret, seen)
            if row is None:
                continue
            if row.problem:
                self._notices.warn("release_secret_unreadable", problem=row.problem)
            rows.append(row)
            if loop.time() - since > _LONGEST_HOLD_SECONDS:
                await asyncio.sleep(0)  # leases are renewed beside this, and a hostile Secret takes a while
                since = loop.time()
        return rows

    async def _note_error(self, error: PilothouseError) -> None:
        self._confirmations.drop(self._cluster_id)
        detail = error.detail if isinstance(error, ClusterUnavailable) else ""
        self._notices.warn("cluster_not_watched", cause=detail or str(error))
        with suppress(DatabaseUnavailable):
            async with self._database.autocommit() as connection:
                await cluster_watches.note_error(connection, self._cluster_id, sanitize(str(error)))


def spread_window(most: int) -> int:
    """Return how many seconds the next watch lasts, ``most`` at most: those that begin together end one by one."""
    return round(most * random.uniform(_SHORTEST_PART, 1.0))  # noqa: S311 - no secret


async def _gathered(watch: AsyncGenerator[WatchBatch, None], *, seconds: float) -> AsyncGenerator[WatchBatch, None]:
    """Yield the same events, merging those within ``seconds``; only the very first are yielded at once.

    Helm writes a Secret twice for each revision, and only the last needs decoding; this also leaves the CPU to the
    writer.
    """
    coming: asyncio.Task[WatchBatch] | None = None
    first = True
    loop = asyncio.get_running_loop()
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(watch))
            try:
                batch = await coming
            except StopAsyncIteration:
                return
            until, first = loop.time() + (0.0 if first else seconds), False
            coming = asyncio.ensure_future(anext(watch))
            while (left := until - loop.time()) > 0 and (await asyncio.wait([coming], timeout=left))[0]:
                full = len(batch.changes) >= _MOST_GATHERED or batch.size >= _LARGEST_GATHERED
                if coming.exception() is not None or full:
                    break  # told when what came before it is written
                batch = batch.followed_by(coming.result())
                coming = asyncio.ensure_future(anext(watch))
            yield batch
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def _key(seen: SeenSecret) -> tuple[str, str]:
    return seen.namespace, seen.secret

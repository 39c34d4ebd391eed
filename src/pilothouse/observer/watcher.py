"""Watches one cluster's Helm storage and keeps the index to it, until told to stop.

A list brings everything up to one resourceVersion, a watch what comes after it. What must stay true:

- The index is as far as ``observations.resource_version``: it is written after, or together with, the rows it covers.
  A watcher that takes over goes on from there, and lists again only when the server has forgotten that moment (410).
- A resourceVersion that went back is a server restored from a backup: a new epoch begins, in which every row of the
  old one is older than anything read. Nothing disappears until a complete list has shown that it is gone.
- A Secret that cannot be read costs itself, never the watch.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

import structlog

from pilothouse.cluster.client import ClusterClient, ListExpired, Secret
from pilothouse.cluster.watch import News, watch_releases
from pilothouse.errors import ClusterDenied, ClusterUnavailable, DatabaseUnavailable, NotFound
from pilothouse.services.clusters import Clusters
from pilothouse.services.release_index import ReleaseIndex, gone, see
from pilothouse.settings import ObserverSettings
from pilothouse.store import observations
from pilothouse.store import release_index as store
from pilothouse.store.database import Database
from pilothouse.store.observations import ObservationRow
from pilothouse.store.release_index import NewRevision

log = structlog.get_logger(__name__)

_FIRST_RETRY_SECONDS = 0.25
#: Over the window of a watch: the server ends it, so that silence for longer means a dead connection.
_GRACE_SECONDS = 5.0
#: Each change holds a Secret of up to 1 MiB.
_MOST_GATHERED = 64
#: A server that ends each watch at once must not be asked as fast as it can answer.
_SHORTEST_WATCH_SECONDS = 1.0


class WentBack(Exception):
    """The cluster's resourceVersion is lower than one seen before: its storage was restored from a backup."""


class Watcher:
    """One cluster's watcher."""

    def __init__(
        self, cluster_id: str, database: Database, clusters: Clusters, index: ReleaseIndex, settings: ObserverSettings
    ) -> None:
        self._cluster_id = cluster_id
        self._database = database
        self._clusters = clusters
        self._index = index
        self._settings = settings
        self._list_due = False

    async def run(self) -> None:
        """Watches until cancelled, or until the cluster is removed; whatever fails is tried again."""
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                if not await self._round():
                    log.info("cluster_gone", cluster_id=self._cluster_id)
                    return
                pause = _FIRST_RETRY_SECONDS
                continue
            except (ClusterUnavailable, ClusterDenied) as error:
                await self._note_error(str(error))
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", cause=str(error))
            except Exception:
                log.exception("watch_failed", cluster_id=self._cluster_id)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._settings.retry_seconds)

    async def _round(self) -> bool:
        """A list if one is due, then one window of the watch; False if the cluster is no longer registered."""
        async with self._database.statements() as tx:
            known = await observations.find_observation(tx, self._cluster_id)
            if known is None:
                return False
            try:
                cluster = await self._clusters.reach(self._cluster_id, project_id=None, tx=tx)
            except NotFound:
                return False
        client = self._clusters.client(cluster)
        try:
            if self._list_due or not known.resource_version:
                await self._list(client, known)
                return True
            await self._check(client, known)
            await self._watch(client, known)
        except ListExpired as error:
            log.info("watch_expired", cluster_id=self._cluster_id, cause=str(error))
            self._list_due = True
        except WentBack:
            log.warning("resource_version_went_back", cluster_id=self._cluster_id, epoch=known.epoch + 1)
            async with self._database.statements() as tx:
                await observations.begin_epoch(tx, self._cluster_id, after=known.epoch)
        return True

    async def _check(self, client: ClusterClient, known: ObservationRow) -> None:
        """A watch from a resourceVersion that the server has not reached yet would stay silent, and not fail."""
        if await client.newest_resource_version() < known.resource_version:
            raise WentBack

    async def _list(self, client: ClusterClient, known: ObservationRow) -> None:
        """Brings everything that the cluster has into the index, and buries what it no longer has."""
        kept: set[tuple[str, str]] = set()
        version, decoded = 0, 0
        async for page in client.list_release_pages():
            version = page.resource_version
            if version < known.resource_version:
                raise WentBack
            seen = [one for one in map(see, page.secrets) if one is not None]
            kept.update((one.namespace, one.secret) for one in seen)
            async with self._database.statements() as tx:
                unknown = await store.list_unknown(tx, self._cluster_id, seen, epoch=known.epoch)
            rows = await self._read([secret for secret in page.secrets if _key(secret) in unknown])
            decoded += len(rows)
            async with self._database.transaction() as tx:
                await store.apply_revisions(tx, self._cluster_id, rows, epoch=known.epoch)
        async with self._database.transaction() as tx:
            buried = await store.bury_missing(
                tx, self._cluster_id, epoch=known.epoch, resource_version=version, kept=kept
            )
            await observations.note_listed(tx, self._cluster_id, epoch=known.epoch, resource_version=version)
        self._list_due = False
        log.info("cluster_listed", cluster_id=self._cluster_id, secrets=len(kept), decoded=decoded, gone=buried)

    async def _watch(self, client: ClusterClient, known: ObservationRow) -> None:
        window = self._settings.window_seconds
        version = known.resource_version
        began = asyncio.get_running_loop().time()
        watch = watch_releases(client, since=version, window_seconds=window, idle_seconds=window + _GRACE_SECONDS)
        async with aclosing(watch), aclosing(_gathered(watch, seconds=self._settings.gather_seconds)) as gathered:
            async for news in gathered:
                if news.resource_version < version:
                    raise ClusterUnavailable("the API server is behind what it said before")  # or restored: look again
                version = news.resource_version
                await self._take(news, known.epoch)
        if asyncio.get_running_loop().time() - began < _SHORTEST_WATCH_SECONDS:
            raise ClusterUnavailable("the API server ended the watch at once")

    async def _take(self, news: News, epoch: int) -> None:
        """Writes what arrived together, and how far the index is with it, in one transaction."""
        if news.unreadable:
            log.warning("watch_lines_unreadable", cluster_id=self._cluster_id, lines=news.unreadable)
        last = {_key(change.secret): change for change in news.changes}
        buried = [dead for change in last.values() if change.gone and (dead := gone(change.secret)) is not None]
        rows = await self._read([change.secret for change in last.values() if not change.gone])
        async with self._database.transaction() as tx:
            await store.apply_revisions(tx, self._cluster_id, rows, epoch=epoch)
            await store.bury(tx, self._cluster_id, buried, epoch=epoch)
            await observations.note_seen(tx, self._cluster_id, epoch=epoch, resource_version=news.resource_version)

    async def _read(self, secrets: Sequence[Secret]) -> list[NewRevision]:
        rows = []
        for secret in secrets:
            row = self._index.read(self._cluster_id, secret)
            if row is None:
                continue
            if row.problem:
                log.warning("release_secret_unreadable", cluster_id=self._cluster_id, problem=row.problem)
            rows.append(row)
            await asyncio.sleep(0)  # leases are renewed beside this, and a hostile Secret takes a while
        return rows

    async def _note_error(self, error: str) -> None:
        log.warning("cluster_not_watched", cluster_id=self._cluster_id, cause=error)
        with suppress(DatabaseUnavailable):
            async with self._database.statements() as tx:
                await observations.note_error(tx, self._cluster_id, error)


async def _gathered(watch: AsyncGenerator[News, None], *, seconds: float) -> AsyncGenerator[News, None]:
    """The same news, but what follows within ``seconds`` of the first is one with it.

    Helm writes a Secret twice for each revision, and only the last of both needs decoding; and the processors are
    left to whoever is writing.
    """
    coming: asyncio.Task[News] | None = None
    loop = asyncio.get_running_loop()
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(watch))
            try:
                news = await coming
            except StopAsyncIteration:
                return
            until = loop.time() + (seconds if news.changes else 0.0)
            coming = asyncio.ensure_future(anext(watch))
            while (left := until - loop.time()) > 0 and (await asyncio.wait([coming], timeout=left))[0]:
                if coming.exception() is not None or len(news.changes) >= _MOST_GATHERED:
                    break  # told when what came before it is written
                news = news.followed_by(coming.result())
                coming = asyncio.ensure_future(anext(watch))
            yield news
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def _key(secret: Secret) -> tuple[str, str]:
    seen = see(secret)
    return (seen.namespace, seen.secret) if seen is not None else ("", "")

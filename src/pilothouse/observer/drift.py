"""Periodic looks at the drift of one cluster's releases, at so many requests per second at most.

What was deployed and not looked at since comes first, then the release with the oldest look. What is found is kept
beside the index: a few numbers for each release.
"""

import asyncio
from typing import Final

import structlog

from pilothouse.errors import DatabaseUnavailable, NotFound, PilothouseError
from pilothouse.kubernetes.budget import Budget, Pace, budgeted, paced
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.observer.notices import Notices
from pilothouse.services.clusters import Clusters
from pilothouse.services.releases.drift import deployed_or_newest, find_drift, keep_look
from pilothouse.services.releases.ignore_rules import read_rules
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.settings import ObserverSettings
from pilothouse.store import drift as store
from pilothouse.store.database import Database
from pilothouse.store.drift import DueLook
from pilothouse.store.texts import sanitize

log = structlog.get_logger(__name__)

#: How soon a new revision is found, and what a cluster says of its looks; less if looks are to be repeated sooner.
_IDLE_SECONDS: Final = 10.0
#: Of one look, at the pace of the setting; a look that takes longer has unknown objects.
_LONGEST_SECONDS: Final = 1800.0
_MOST_BYTES: Final = 64 * 1024 * 1024
_KINDS_SECONDS: Final = 600.0
_LONGEST_PROBLEM: Final = 500


class DriftLooks:
    """Look at the releases of one cluster, one after the other."""

    def __init__(self, cluster_id: str, database: Database, clusters: Clusters, settings: ObserverSettings) -> None:
        self._cluster_id = cluster_id
        self._database = database
        self._clusters = clusters
        self._settings = settings
        self._pace = Pace(settings.drift_requests_per_second)
        self._notices = Notices(cluster_id)
        self._ending = False
        self._kinds: tuple[object, KindCache] | None = None

    def end(self) -> None:
        """Take whatever ``run`` raises from now on for its end: whoever calls this cancels it."""
        self._ending = True

    async def run(self) -> None:
        """Look until cancelled; all failures are retried."""
        while True:
            looked = False
            try:
                async with self._database.autocommit() as connection:
                    due = await store.find_due(connection, self._cluster_id, older_seconds=self._settings.drift_seconds)
                if due is not None:
                    await self._look(due)
                    looked = True
            except Exception as error:  # noqa: BLE001 (all are reported, and it goes on)
                if self._ending:  # libraries may replace the cancel by another exception
                    return
                self._report(error)
            if not looked:
                await asyncio.sleep(min(_IDLE_SECONDS, self._settings.drift_seconds or _IDLE_SECONDS))

    def _report(self, error: Exception) -> None:
        """Say why a look failed."""
        match error:
            case DatabaseUnavailable():
                log.warning("database_unavailable", cause=str(error))
            case PilothouseError():
                self._notices.warn("drift_not_looked_at", cause=str(error))
            case _:
                if self._notices.is_due("drift_look_failed"):
                    log.error("drift_look_failed", cluster_id=self._cluster_id, exc_info=error)

    async def _look(self, look: DueLook) -> None:
        """Look at a release and record what was found, or why nothing was."""
        try:
            with budgeted(Budget(seconds=_LONGEST_SECONDS, most_bytes=_MOST_BYTES)), paced(self._pace):
                await self._find(look)
        except DatabaseUnavailable:
            raise
        except PilothouseError as error:
            async with self._database.autocommit() as connection:
                await store.record_problem(
                    connection,
                    self._cluster_id,
                    namespace=look.namespace,
                    name=look.name,
                    problem=sanitize(str(error)[:_LONGEST_PROBLEM]),
                )
            raise

    async def _find(self, look: DueLook) -> None:
        async with self._database.autocommit() as connection:
            cluster = await self._clusters.reach(self._cluster_id, project_id=None, tx=connection)
            rules = await read_rules(connection, self._cluster_id, namespace=look.namespace, name=look.name)
        client = self._clusters.client(cluster)
        if self._kinds is None or self._kinds[0] is not client:
            self._kinds = client, KindCache(client, seconds=_KINDS_SECONDS)
        revisions = [stored for stored, _ in await read_unsuperseded(client, look.namespace, look.name)]
        if not revisions:
            raise NotFound(f"release {look.name!r} in namespace {look.namespace!r} is not there any more")
        stored = deployed_or_newest(revisions)
        found = await find_drift(client, stored, rules, kinds=self._kinds[1], seconds=_LONGEST_SECONDS)
        async with self._database.autocommit() as connection:
            await keep_look(connection, self._cluster_id, found, namespace=look.namespace, name=look.name)

"""Releases read from the cluster itself: one that is to be changed, and all until the index is complete."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.kubernetes.budget import keep
from pilothouse.kubernetes.client import ClusterClient, Secret
from pilothouse.kubernetes.helm_secrets import StoredRelease, read_release, release_key
from pilothouse.services.clusters import Clusters, cluster_error_context
from pilothouse.services.releases.index import ReleaseIndex
from pilothouse.services.releases.names import is_name, is_namespace
from pilothouse.store import releases
from pilothouse.store.database import Database
from pilothouse.store.release_index import NewRevision
from pilothouse.store.releases import RevisionRow

log = structlog.get_logger(__name__)

#: What a row without its values takes at most, texts included.
_ROW_BYTES = 1024


async def read_unsuperseded(client: ClusterClient, namespace: str, name: str) -> list[tuple[StoredRelease, Secret]]:
    """Return the newest revision, last, and before it those that are not superseded, including the deployed one."""
    if not (is_namespace(namespace) and is_name(name)):
        return []
    found = [
        (await read_release(secret), secret)
        async for secret in client.list_release_secrets(namespace=namespace, name=name, superseded=False)
    ]
    return sorted(found, key=lambda entry: entry[0].revision)


class LiveReleases:
    """Read Helm's Secrets now, in the form of index rows; a Secret that cannot be decoded is skipped and logged.

    Both methods raise ClusterUnavailable, ClusterDenied or NotFound (the cluster). Their cost is bounded by the
    request's budget: before the index is complete, a very large cluster cannot be listed.
    """

    def __init__(self, database: Database, keys: MasterKeys, clusters: Clusters) -> None:
        self._database = database
        self._clusters = clusters
        self._index = ReleaseIndex(keys)

    async def read_revisions(self, cluster_id: str, *, namespace: str, name: str) -> list[RevisionRow]:
        """Return every revision of one release, newest first."""
        if not is_namespace(namespace) or not is_name(name):
            return []
        cluster = await self._clusters.reach(cluster_id, project_id=None)
        client = self._clusters.client(cluster)
        with cluster_error_context(cluster):
            async with client.within_limit():
                secrets = client.list_release_secrets(namespace=namespace, name=name)
                rows = [await self._read(cluster_id, secret) async for secret in secrets]
        # A server that gives other releases than it was asked for must not have them shown as this one.
        own = [row for row in rows if row is not None and (row.namespace, row.name) == (namespace, name)]
        found = await self._with_origins(cluster_id, own)
        return sorted(found, key=lambda row: row.revision, reverse=True)

    async def read_newest(self, cluster_id: str, *, namespace: str | None) -> list[RevisionRow]:
        """Return the newest revision of each release."""
        if namespace is not None and not is_namespace(namespace):
            return []
        cluster = await self._clusters.reach(cluster_id, project_id=None)
        client = self._clusters.client(cluster)
        newest: dict[tuple[str, str], tuple[int, NewRevision | None]] = {}
        with cluster_error_context(cluster):
            # The newest revision is hardly ever superseded, and most of the others are.
            async for secret in client.list_release_secrets(namespace=namespace, superseded=False):
                key = release_key(secret)
                if key is not None and key.revision > newest.get((key.namespace, key.name), (0, None))[0]:
                    newest[key.namespace, key.name] = key.revision, await self._read(cluster_id, secret)
        return await self._with_origins(cluster_id, [row for _, row in newest.values()])

    async def _read(self, cluster_id: str, secret: Secret) -> NewRevision | None:
        """Decode off the event loop: a malicious Secret takes a tenth of a second."""
        row = await asyncio.to_thread(self._index.read, cluster_id, secret)
        if row is not None:
            keep(len(row.values_sealed or b"") + _ROW_BYTES)
        return row

    async def _with_origins(self, cluster_id: str, read: Sequence[NewRevision | None]) -> list[RevisionRow]:
        rows = [row for row in read if row is not None and not row.problem]
        problems = [row.problem for row in read if row is not None and row.problem]
        if problems:
            log.warning("release_secrets_unreadable", cluster_id=cluster_id, secrets=len(problems), problem=problems[0])
        async with self._database.autocommit() as connection:
            origins = await releases.find_origins(connection, cluster_id, [row.operation_id for row in rows])
        return [_with_origin(row, origins) for row in rows]


def _with_origin(row: NewRevision, origins: dict[tuple[str, int], releases.Origin]) -> RevisionRow:
    said = asdict(row)
    operation_id = said.pop("operation_id")
    origin = origins.get((operation_id, row.revision))
    return RevisionRow(
        **said,
        origin_chart_id=origin.chart_id if origin else "",
        origin_description=origin.description if origin else "",
        origin_operation_id=operation_id if origin else "",
    )

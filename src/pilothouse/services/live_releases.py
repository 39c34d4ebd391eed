"""Releases as the cluster itself has them: what reads answer from until the index has its first complete list."""

from dataclasses import asdict

import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.cluster.client import Secret
from pilothouse.cluster.storage import release_key
from pilothouse.services.clusters import Clusters, naming
from pilothouse.services.release_index import ReleaseIndex
from pilothouse.services.release_names import is_name, is_namespace
from pilothouse.store import releases
from pilothouse.store.database import Database
from pilothouse.store.release_index import NewRevision
from pilothouse.store.releases import RevisionRow

log = structlog.get_logger(__name__)


class LiveReleases:
    """Reads Helm's Secrets now, in the form of the index's rows; a Secret that cannot be read is skipped and logged.

    Both methods raise ClusterUnavailable, ClusterDenied or NotFound (the cluster).
    """

    def __init__(self, database: Database, keys: MasterKeys, clusters: Clusters) -> None:
        self._database = database
        self._clusters = clusters
        self._index = ReleaseIndex(keys)

    async def read_revisions(self, cluster_id: str, *, namespace: str, name: str) -> list[RevisionRow]:
        """Every revision of one release, newest first."""
        if not is_namespace(namespace) or not is_name(name):
            return []
        cluster = await self._clusters.reach(cluster_id, project_id=None)
        client = self._clusters.client(cluster)
        with naming(cluster):
            async with client.within_limit():
                secrets = [secret async for secret in client.list_release_secrets(namespace=namespace, name=name)]
        rows = await self._rows(cluster_id, secrets)
        return sorted(rows, key=lambda row: row.revision, reverse=True)

    async def read_newest(self, cluster_id: str, *, namespace: str | None) -> list[RevisionRow]:
        """The newest revision of each release."""
        if namespace is not None and not is_namespace(namespace):
            return []
        cluster = await self._clusters.reach(cluster_id, project_id=None)
        client = self._clusters.client(cluster)
        newest: dict[tuple[str, str], tuple[int, Secret]] = {}
        with naming(cluster):
            # The newest revision is hardly ever superseded, and most of the others are.
            async for secret in client.list_release_secrets(namespace=namespace, superseded=False):
                key = release_key(secret)
                if key is not None and key.revision > newest.get((key.namespace, key.name), (0, None))[0]:
                    newest[key.namespace, key.name] = (key.revision, secret)
        return await self._rows(cluster_id, [secret for _, secret in newest.values()])

    async def _rows(self, cluster_id: str, secrets: list[Secret]) -> list[RevisionRow]:
        rows = []
        for secret in secrets:
            row = self._index.read(cluster_id, secret)
            if row is not None and not row.problem:
                rows.append(row)
            elif row is not None:
                log.warning("release_secret_unreadable", cluster_id=cluster_id, problem=row.problem)
        async with self._database.statements() as tx:
            origins = await releases.find_origins(tx, cluster_id, [row.operation_id for row in rows])
        return [_with_origin(row, origins) for row in rows]


def _with_origin(row: NewRevision, origins: dict[tuple[str, int], releases.Origin]) -> RevisionRow:
    said = asdict(row)
    origin = origins.get((said.pop("operation_id"), row.revision))
    return RevisionRow(
        **said,
        origin_chart_id=origin.chart_id if origin else "",
        origin_description=origin.description if origin else "",
    )

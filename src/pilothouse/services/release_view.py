"""What is to be seen of releases.

The cluster's Helm storage is the truth about releases. An operation that is not final lies over it, and
so does an install that failed before Helm wrote a revision, until the release exists or is created anew.
"""

from dataclasses import dataclass, field
from datetime import datetime

import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.cluster.client import Secret
from pilothouse.cluster.storage import StoredRelease, decode_release, release_key
from pilothouse.errors import CorruptRelease, NotFound
from pilothouse.services.charts import compact_json
from pilothouse.services.clusters import Cluster, Clusters, ReachableCluster, naming
from pilothouse.services.identity import Caller
from pilothouse.services.orders import InstallOrder, open_order
from pilothouse.services.release_names import is_name, is_namespace
from pilothouse.store import charts, operations
from pilothouse.store.database import Database

log = structlog.get_logger(__name__)

#: Helm's own word for an install that has not ended.
INSTALL_UNDERWAY = "Initial install underway"
#: The states in which a release is on its way to another one.
UNSETTLED = frozenset({"pending-install", "pending-upgrade", "pending-rollback", "uninstalling"})


@dataclass(frozen=True)
class Release:
    """A release as callers see it; ``status`` is Helm's own word, ``revision`` Helm's number.

    ``values_json`` and ``resources_json`` are JSON text; the latter is '' unless it was asked for.
    """

    cluster_id: str
    cluster_name: str
    namespace: str
    name: str
    revision: int
    status: str
    description: str
    status_description: str
    chart_name: str
    chart_version: str
    values_json: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    resources_json: str = field(default="", repr=False)


class ReleaseView:
    """Shows and lists the releases of a project's clusters."""

    def __init__(self, database: Database, keys: MasterKeys, clusters: Clusters) -> None:
        self._database = database
        self._keys = keys
        self._clusters = clusters

    async def show(self, caller: Caller, cluster_id: str, *, namespace: str, name: str) -> Release:
        """The newest revision, or what an operation is making of it; NotFound if there is neither."""
        caller.require("cce:release:get")
        # The operation is read before the cluster: one that ends in between is then found as a revision.
        async with self._database.statements() as tx:
            cluster = await self._clusters.reach(cluster_id, project_id=caller.project_id, tx=tx)
            shown = await operations.find_shown(tx, cluster_id=cluster.id, namespace=namespace, release_name=name)
            if shown is not None and shown.state in operations.LIVING:
                return self._laid_over(cluster, shown)
            origin = await operations.find_origin(tx, cluster_id=cluster.id, namespace=namespace, release_name=name)
        if is_namespace(namespace) and is_name(name):
            for stored in await self._read_newest(cluster, namespace=namespace, name=name):
                return _from_storage(cluster, stored, [origin] if origin else [])
        if shown is not None:
            return self._laid_over(cluster, shown)
        raise NotFound(f"release {name!r} does not exist in namespace {namespace!r} of cluster {cluster.name!r}")

    async def show_history(self, caller: Caller, cluster_id: str, *, namespace: str, name: str) -> list[Release]:
        """Every revision that Helm keeps, newest first, with what an operation is making as the newest.

        NotFound if there is neither a revision nor an operation.
        """
        caller.require("cce:release:get")  # the vendor names no action of its own
        async with self._database.statements() as tx:
            cluster = await self._clusters.reach(cluster_id, project_id=caller.project_id, tx=tx)
            shown = await operations.find_shown(tx, cluster_id=cluster.id, namespace=namespace, release_name=name)
            origins = await operations.list_release_origins(
                tx, cluster_id=cluster.id, namespace=namespace, release_name=name
            )
        stored = []
        if is_namespace(namespace) and is_name(name):
            stored = await self._read_revisions(cluster, namespace=namespace, name=name)
        revisions = {one.revision: _from_storage(cluster, one, origins) for one in stored}
        if shown is not None and (shown.state in operations.LIVING or not revisions):
            underway = self._laid_over(cluster, shown)
            revisions[underway.revision] = underway
        if not revisions:
            raise NotFound(f"release {name!r} does not exist in namespace {namespace!r} of cluster {cluster.name!r}")
        return [revisions[number] for number in sorted(revisions, reverse=True)]

    async def list_releases(
        self, caller: Caller, cluster_id: str, *, namespace: str | None, chart_id: str | None
    ) -> list[Release]:
        """Every release of the cluster, once, by namespace and name; optionally of one namespace or one chart."""
        caller.require("cce:release:list")
        async with self._database.statements() as tx:
            cluster = await self._clusters.reach(cluster_id, project_id=caller.project_id, tx=tx)
            if namespace is not None and not is_namespace(namespace):
                return []
            shown = await operations.list_shown(tx, cluster_id=cluster.id, namespace=namespace)
            origins = await operations.list_origins(tx, cluster_id=cluster.id, namespace=namespace)
            chart = None
            if chart_id is not None:
                chart = await charts.find_chart(tx, chart_id, project_id=caller.project_id)
        stored = await self._read_newest(cluster, namespace=namespace, name=None)
        if chart_id is not None:
            made_of = {(row.namespace, row.release_name, row.revision): row.chart_id for row in origins}
            shown = [row for row in shown if row.chart_id == chart_id]
            stored = [release for release in stored if _is_of_chart(release, chart_id, chart, made_of)]
        rows = {(release.namespace, release.name): _from_storage(cluster, release, origins) for release in stored}
        for operation in shown:
            key = (operation.namespace, operation.release_name)
            if operation.state in operations.LIVING or key not in rows:
                rows[key] = self._laid_over(cluster, operation)
        return [rows[key] for key in sorted(rows)]

    async def _read_newest(
        self, cluster: ReachableCluster, *, namespace: str | None, name: str | None
    ) -> list[StoredRelease]:
        """The newest revision of each release; one that cannot be read is skipped and logged."""
        newest: dict[tuple[str, str], tuple[int, Secret]] = {}
        client = self._clusters.client(cluster)
        with naming(cluster):
            # The newest revision is never superseded, and most of the others are.
            async for secret in client.list_release_secrets(namespace=namespace, name=name, superseded=False):
                key = release_key(secret)
                if key is not None and key.revision > newest.get((key.namespace, key.name), (0, None))[0]:
                    newest[key.namespace, key.name] = (key.revision, secret)
        return _decode(cluster, [secret for _, secret in newest.values()])

    async def _read_revisions(self, cluster: ReachableCluster, *, namespace: str, name: str) -> list[StoredRelease]:
        """Every revision of one release that can be read."""
        client = self._clusters.client(cluster)
        with naming(cluster):
            return _decode(
                cluster, [secret async for secret in client.list_release_secrets(namespace=namespace, name=name)]
            )

    def _laid_over(self, cluster: Cluster, row: operations.OperationRow) -> Release:
        return from_operation(cluster, row, open_order(row.request_sealed, keys=self._keys, operation_id=row.id))


def from_operation(cluster: Cluster, row: operations.OperationRow, order: InstallOrder) -> Release:
    """The release as an operation that left no final revision shows it: pending, or failed with the reason."""
    living = row.state in operations.LIVING
    return Release(
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        namespace=row.namespace,
        name=row.release_name,
        revision=row.revision or 1,
        status="pending-install" if living else "failed",
        description=row.description or row.status_description,
        status_description=row.status_description,
        chart_name=row.chart_name,
        chart_version=row.chart_version,
        values_json=compact_json(order.merged_values),
        created_at=row.created_at,
        updated_at=row.finished_at or row.created_at,
    )


def _decode(cluster: Cluster, secrets: list[Secret]) -> list[StoredRelease]:
    releases = []
    for secret in secrets:
        try:
            releases.append(decode_release(secret))
        except CorruptRelease as error:
            log.warning("release_secret_unreadable", cluster_id=cluster.id, cause=str(error))
    return releases


def _from_storage(cluster: Cluster, stored: StoredRelease, origins: list[operations.OriginRow]) -> Release:
    here = (stored.namespace, stored.name, stored.revision)
    texts = [row.description for row in origins if (row.namespace, row.release_name, row.revision) == here]
    said = stored.description or stored.status  # a client may rely on a text
    return Release(
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        namespace=stored.namespace,
        name=stored.name,
        revision=stored.revision,
        status=stored.status,
        description=(texts[0] if texts else "") or said,
        status_description=said,
        chart_name=stored.chart_name,
        chart_version=stored.chart_version,
        values_json=compact_json(stored.values),
        created_at=stored.first_deployed,
        updated_at=stored.last_deployed,
    )


def _is_of_chart(
    stored: StoredRelease,
    chart_id: str,
    chart: charts.ChartRow | None,
    made_of: dict[tuple[str, str, int], str],
) -> bool:
    """By the id that an operation recorded; for revisions that others wrote, by the chart's name and version."""
    origin = made_of.get((stored.namespace, stored.name, stored.revision))
    if origin is not None:
        return origin == chart_id
    return chart is not None and (stored.chart_name, stored.chart_version) == (chart.name, chart.version)

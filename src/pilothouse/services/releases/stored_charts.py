"""The chart stored in a release's revision, as one that can be installed: for releases whose chart is nowhere else."""

import asyncio
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pilothouse.chart_archive.charts import ChartArchive, inspect_chart
from pilothouse.errors import InvalidChart, InvalidRequest, NotFound, QuotaExceeded
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL
from pilothouse.kubernetes.stored_charts import pack_stored_chart
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.names import is_name, is_namespace
from pilothouse.store import archives, charts, verifications
from pilothouse.store.verifications import PackedRevision

_FIELD: Final = "chart.revision"


@dataclass(frozen=True)
class StoredChart:
    """A chart without an id, and the revision that stores it."""

    row: charts.ChartRow
    revision: int


async def keep_stored_chart(
    shared: ReleaseDependencies,
    cluster: ClusterConnection,
    *,
    namespace: str,
    name: str,
    revision: int,
    project_id: str,
) -> StoredChart:
    """Return the chart of the revision; its archive is kept like one that the project has uploaded, but in no list.

    Raises NotFound without that revision, InvalidRequest for a chart that
    cannot be taken from it, QuotaExceeded, and what reading the cluster raises.
    """
    secret = None
    if is_namespace(namespace) and is_name(name):
        with cluster_error_context(cluster):
            secret = await shared.clusters.client(cluster).find_release_secret(
                namespace=namespace, name=name, revision=revision
            )
    if secret is None:
        raise NotFound(f"{_FIELD}: release {name!r} has no revision {revision}; its history lists those that it has")
    chart, content = await asyncio.to_thread(_read, shared, secret)
    limit = shared.settings.chart_quota_bytes
    async with shared.database.transaction() as tx:
        await charts.lock_charts_of(tx, project_id)
        used = await archives.count_bytes(tx, project_id=project_id, besides=chart.digest)
        if used + chart.size > limit:
            raise QuotaExceeded(
                f"{_FIELD}: the archives of this project have {used} bytes, with this one {used + chart.size}, and may "
                f"have {limit}; delete charts, or wait some minutes until unused archives are collected"
            )
        await archives.add_archive(tx, digest=chart.digest, content=io.BytesIO(content), size=chart.size)
        await archives.note_project(tx, project_id=project_id, digest=chart.digest)
        packed = PackedRevision(
            project_id=project_id,
            cluster_id=cluster.id,
            namespace=namespace,
            name=name,
            revision=revision,
            operation_id=secret["metadata"].get("labels", {}).get(OPERATION_LABEL, ""),
        )
        await verifications.pass_on(tx, packed, digest=chart.digest)
    return StoredChart(_row(chart, project_id), revision)


def _read(shared: ReleaseDependencies, secret: Secret) -> tuple[ChartArchive, bytes]:
    try:
        content = pack_stored_chart(secret)
        return inspect_chart(content, limits=shared.settings.charts), content
    except InvalidChart as error:
        raise InvalidRequest(f"{_FIELD}: the chart that is stored with it cannot be installed: {error}") from error
    except InvalidRequest as error:
        raise InvalidRequest(f"{_FIELD}: {error}") from error


def _row(chart: ChartArchive, project_id: str) -> charts.ChartRow:
    now = datetime.now(UTC)
    return charts.ChartRow(
        id="",
        project_id=project_id,
        name=chart.name,
        version=chart.version,
        digest=chart.digest,
        description=chart.description,
        icon_url=chart.icon_url,
        instruction="",
        values_json=compact_json(chart.values),
        source="",
        visible=False,
        created_at=now,
        updated_at=now,
    )

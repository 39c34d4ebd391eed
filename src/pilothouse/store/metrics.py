"""What the database knows for metrics: the queue, the clusters and their releases, over all projects."""

from dataclasses import dataclass

from sqlalchemy import text

from pilothouse.store.database import Transaction


@dataclass(frozen=True)
class QueueMetrics:
    """Operations that have not ended, by state; the oldest queued one's age in seconds; due repairs and messages."""

    operations: dict[str, int]
    oldest_queued_seconds: float
    repairs: int
    messages: int


@dataclass(frozen=True)
class ClusterMetrics:
    """A registered cluster; ``index_age_seconds`` is None until the cluster was read once."""

    id: str
    name: str
    watched: bool
    index_age_seconds: float | None
    unreadable: int


@dataclass(frozen=True)
class StatusMetrics:
    """The number of releases of a cluster whose newest revision has this status; of which many have an update."""

    cluster_id: str
    status: str
    releases: int
    updatable: int


async def read_queue(tx: Transaction) -> QueueMetrics:
    """Return the numbers of operations that wait or run."""
    states = {row.state: row.operations for row in await tx.execute(_STATES)}
    oldest, repairs, messages = (await tx.execute(_QUEUE)).one()
    return QueueMetrics(states, float(oldest), repairs, messages)


async def read_clusters(tx: Transaction) -> list[ClusterMetrics]:
    """Return all registered clusters, by id."""
    return [ClusterMetrics(**row) for row in (await tx.execute(_CLUSTERS)).mappings()]


async def read_statuses(tx: Transaction) -> list[StatusMetrics]:
    """Return the numbers of releases by cluster and status, by id and status."""
    return [StatusMetrics(**row) for row in (await tx.execute(_STATUSES)).mappings()]


_STATES = text("""
SELECT state, count(*) AS operations FROM operations WHERE state IN ('queued', 'running', 'cancelling') GROUP BY state
""")
_QUEUE = text("""
SELECT (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - created_at)), 0)
          FROM operations WHERE state = 'queued'),
       (SELECT count(*) FROM repairs WHERE due_at <= clock_timestamp()),
       (SELECT count(*) FROM webhook_deliveries WHERE state = 'pending')
""")
_CLUSTERS = text("""
SELECT c.id, c.name, w.error = '' AND w.listed_at IS NOT NULL AS watched,
       CAST(extract(epoch FROM clock_timestamp() - w.seen_at) AS double precision) AS index_age_seconds,
       (SELECT count(*) FROM release_revisions r
         WHERE r.cluster_id = c.id AND r.gone_at IS NULL AND r.problem <> '') AS unreadable
FROM clusters c JOIN cluster_watches w ON w.cluster_id = c.id ORDER BY c.id
""")
_STATUSES = text("""
SELECT cluster_id, status, count(*) AS releases, count(o.chart_id) AS updatable FROM (
  SELECT DISTINCT ON (cluster_id, namespace, name) cluster_id, status, origin_chart_id FROM release_revisions
  WHERE gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed)
  ORDER BY cluster_id, namespace, name, revision DESC
) newest LEFT JOIN chart_origins o ON o.chart_id = newest.origin_chart_id AND o.newer_version <> ''
GROUP BY cluster_id, status ORDER BY cluster_id, status
""")

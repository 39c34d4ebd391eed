"""Metrics that the database knows; every API process reports the same, from one look that it keeps for seconds."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from pilothouse.states import LIVING_STATES
from pilothouse.store import metrics as store
from pilothouse.store.database import Database

#: However often and by however many it is asked, the database is read so seldom.
_KEPT_SECONDS: Final = 5.0


@dataclass(frozen=True)
class _Seen:
    queue: store.QueueMetrics
    clusters: list[store.ClusterMetrics]
    statuses: list[store.StatusMetrics]


class DatabaseMetrics:
    """Gauges of the queue, the clusters and their releases."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading = asyncio.Lock()
        self._seen: _Seen | None = None
        self._read_at = 0.0

    async def read(self) -> list[Metric]:
        """Return the gauges, at most 5 s old; raises DatabaseUnavailable."""
        async with self._reading:
            if self._seen is None or time.monotonic() - self._read_at > _KEPT_SECONDS:
                async with self._database.autocommit() as connection:
                    self._seen = _Seen(
                        await store.read_queue(connection),
                        await store.read_clusters(connection),
                        await store.read_statuses(connection),
                    )
                self._read_at = time.monotonic()
            return [*_queue(self._seen.queue), *_clusters(self._seen.clusters), *_releases(self._seen.statuses)]


_OPERATIONS: Final = ("pilothouse_operations", "Operations that have not ended, in all of Pilothouse.", ("state",))
_OLDEST: Final = (
    "pilothouse_oldest_queued_seconds",
    "How long the oldest queued operation has waited; 0 with an empty queue.",
    (),
)
_REPAIRS: Final = ("pilothouse_repairs_due", "Second looks at releases that are due.", ())
_MESSAGES: Final = (
    "pilothouse_webhook_deliveries_pending",
    "Messages that webhooks did not take yet; those of disabled ones are among them.",
    (),
)
_INFO: Final = ("pilothouse_cluster_info", "Always 1; the name of a registered cluster.", ("cluster_id", "name"))
_WATCHED: Final = (
    "pilothouse_cluster_watched",
    "1 if the cluster answers and its index is complete.",
    ("cluster_id",),
)
_AGE: Final = (
    "pilothouse_index_age_seconds",
    "Time since the cluster last confirmed what the index says.",
    ("cluster_id",),
)
_UNREADABLE: Final = ("pilothouse_unreadable_secrets", "Release Secrets that cannot be read.", ("cluster_id",))
_RELEASES: Final = (
    "pilothouse_releases",
    "Releases by the status of their newest revision.",
    ("cluster_id", "status"),
)
_UPDATES: Final = (
    "pilothouse_releases_with_update",
    "Releases for whose chart its source has a newer version.",
    ("cluster_id",),
)


def describe() -> list[tuple[Metric, tuple[str, ...]]]:
    """Return every gauge without values, and its labels; for documentation."""
    kinds = (_OPERATIONS, _OLDEST, _REPAIRS, _MESSAGES, _INFO, _WATCHED, _AGE, _UNREADABLE, _RELEASES, _UPDATES)
    return [(_family(kind), kind[2]) for kind in kinds]


def _family(kind: tuple[str, str, tuple[str, ...]]) -> GaugeMetricFamily:
    name, documentation, labels = kind
    return GaugeMetricFamily(name, documentation, labels=labels)


def _queue(seen: store.QueueMetrics) -> Iterable[Metric]:
    operations, oldest, repairs = _family(_OPERATIONS), _family(_OLDEST), _family(_REPAIRS)
    messages = _family(_MESSAGES)
    for state in LIVING_STATES:
        operations.add_metric([state], seen.operations.get(state, 0))
    oldest.add_metric([], seen.oldest_queued_seconds)
    repairs.add_metric([], seen.repairs)
    messages.add_metric([], seen.messages)
    return operations, oldest, repairs, messages


def _clusters(seen: list[store.ClusterMetrics]) -> Iterable[Metric]:
    info, watched, age, unreadable = _family(_INFO), _family(_WATCHED), _family(_AGE), _family(_UNREADABLE)
    for cluster in seen:
        info.add_metric([cluster.id, cluster.name], 1)
        watched.add_metric([cluster.id], cluster.watched)
        if cluster.index_age_seconds is not None:
            age.add_metric([cluster.id], cluster.index_age_seconds)
        unreadable.add_metric([cluster.id], cluster.unreadable)
    return info, watched, age, unreadable


def _releases(seen: list[store.StatusMetrics]) -> Iterable[Metric]:
    releases, updates, updatable = _family(_RELEASES), _family(_UPDATES), Counter[str]()
    for row in seen:
        releases.add_metric([row.cluster_id, row.status], row.releases)
        updatable[row.cluster_id] += row.updatable
    for cluster_id, count in updatable.items():
        updates.add_metric([cluster_id], count)
    return releases, updates

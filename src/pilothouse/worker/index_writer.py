"""What an attempt observed is written to the release index, not later than its outcome.

So a client that learned of an operation's end never reads an older revision, even if the observer lags.
"""

from dataclasses import dataclass, field

import structlog

from pilothouse.errors import ClusterDenied, ClusterUnavailable, NotFound
from pilothouse.kubernetes.client import Secret
from pilothouse.services.clusters import Clusters
from pilothouse.services.releases.index import ReleaseIndex
from pilothouse.store.database import Transaction
from pilothouse.store.operations import OperationRow
from pilothouse.store.release_index import NewRevision
from pilothouse.worker.outcome import Outcome

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RecordedState:
    """The release's newest Secret after the action, or the resourceVersion at which it had none; or neither."""

    secret: Secret | None = field(default=None, repr=False)
    absent_at: int | None = None


class IndexWriter:
    """Write what was observed to the index."""

    def __init__(self, clusters: Clusters, index: ReleaseIndex) -> None:
        self._clusters = clusters
        self._index = index

    async def look(self, row: OperationRow, outcome: Outcome) -> RecordedState:
        """Return what to record: the Secret or, if the release is gone, since when; what cannot be read is left out."""
        if outcome.secret is not None or outcome.absent_at is not None or not outcome.gone:
            return RecordedState(outcome.secret, absent_at=outcome.absent_at)
        try:
            cluster = await self._clusters.reach(row.cluster_id, project_id=None)
            client = self._clusters.client(cluster)
            return RecordedState(absent_at=await client.find_absence(namespace=row.namespace, name=row.release_name))
        except (ClusterUnavailable, ClusterDenied, NotFound) as error:
            log.warning("index_left_to_observer", operation_id=row.id, cause=str(error))
            return RecordedState()

    def read(self, row: OperationRow, state: RecordedState) -> tuple[str, NewRevision] | None:
        """Return the Secret as an index row, and its cluster's id; for ``attempts.finish``."""
        revision = self._index.read(row.cluster_id, state.secret) if state.secret is not None else None
        return (row.cluster_id, revision) if revision is not None else None

    async def write_absence(self, tx: Transaction, row: OperationRow, state: RecordedState) -> None:
        """Record that the release is gone; newer rows of the index are unchanged."""
        if state.absent_at is not None:
            await self._index.record_gone(
                tx,
                row.cluster_id,
                namespace=row.namespace,
                name=row.release_name,
                resource_version=state.absent_at,
            )

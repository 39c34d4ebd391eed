"""Limits of the index per cluster.

Whoever can write Secrets in a cluster, or controls its API server, could fill the database: so rows, and the bytes of
their values, are limited per cluster. What exceeds the limit is left out and reported; other reads stay correct,
because single releases of such a cluster are read from the cluster.
"""

from collections.abc import Sequence
from dataclasses import replace

from pilothouse.settings import ObserverSettings
from pilothouse.store import release_index as store
from pilothouse.store.database import Transaction
from pilothouse.store.release_index import DeletedSecret, NewRevision


class Admission:
    """Count what is written to the index of a cluster during one list or watch."""

    def __init__(self, cluster_id: str, settings: ObserverSettings) -> None:
        self._cluster_id = cluster_id
        self._most_rows = settings.rows_per_cluster
        self._most_bytes = settings.values_bytes_per_cluster
        self._rows: int | None = None
        self._bytes = 0
        #: Something was left out.
        self.truncated = False

    async def admit(self, tx: Transaction, rows: Sequence[NewRevision]) -> Sequence[NewRevision]:
        """Return the rows that fit into the index: of new Secrets as many as there is room for, values likewise."""
        if await self._has_room(tx, len(rows), sum(map(_values_size, rows))):
            return rows
        known = await store.list_known(tx, self._cluster_id, [(row.namespace, row.secret) for row in rows])
        taken = []
        for revision in rows:
            row = revision
            if (row.namespace, row.secret) not in known and not self._take_row():
                continue
            if self._bytes + _values_size(row) > self._most_bytes:
                self.truncated = True
                row = replace(row, values_sealed=None, problem=_WITHOUT_VALUES)
            self._bytes += _values_size(row)
            taken.append(row)
        return taken

    async def admit_deleted(self, tx: Transaction, gone: Sequence[DeletedSecret]) -> Sequence[DeletedSecret]:
        """Return the deletions to be recorded: of unknown Secrets only while there is room."""
        if await self._has_room(tx, len(gone), 0):
            return gone
        known = await store.list_known(tx, self._cluster_id, [(row.namespace, row.secret) for row in gone])
        return [row for row in gone if (row.namespace, row.secret) in known]

    async def _has_room(self, tx: Transaction, rows: int, size: int) -> bool:
        """Return True if everything fits; otherwise the counts are exact afterwards, without it.

        Rows that replace others are counted as new until that would exceed the limit.
        """
        if self._rows is None or not self._fits(rows, size):
            measured = await store.measure(tx, self._cluster_id)
            self._rows, self._bytes = measured.rows, measured.values_bytes
        if not self._fits(rows, size):
            return False
        self._rows += rows
        self._bytes += size
        return True

    def _fits(self, rows: int, size: int) -> bool:
        return (self._rows or 0) + rows <= self._most_rows and self._bytes + size <= self._most_bytes

    def _take_row(self) -> bool:
        if (self._rows or 0) >= self._most_rows:
            self.truncated = True
            return False
        self._rows = (self._rows or 0) + 1
        return True


_WITHOUT_VALUES = (
    "is not shown: the index holds no more values of this cluster (PILOTHOUSE_OBSERVER__VALUES_BYTES_PER_CLUSTER)"
)


def _values_size(row: NewRevision) -> int:
    return len(row.values_sealed or b"")

"""All sealed values of the database, in any table, found by the naming convention of sealed columns.

Nothing here opens a value; the first bytes name the master key that it needs.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table, func, select, tuple_, update

from pilothouse.store.database import Transaction
from pilothouse.store.tables import metadata

SUFFIX = "_sealed"


@dataclass(frozen=True)
class SealedColumn:
    """One column with sealed values."""

    table: Table
    column: Column[Any]

    @property
    def name(self) -> str:
        """The names of table and column, as ``table.column``."""
        return f"{self.table.name}.{self.column.name}"


@dataclass(frozen=True)
class SealedValue:
    """One sealed value and the primary key of its row."""

    row: tuple[Any, ...]
    sealed: bytes


def sealed_columns() -> list[SealedColumn]:
    """Return all of them, in a stable order."""
    return [
        SealedColumn(table, column)
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name.endswith(SUFFIX)
    ]


async def count_by_header(tx: Transaction, *, header_bytes: int) -> Counter[bytes]:
    """Count the values by header; a header names the master key."""
    counted: Counter[bytes] = Counter()
    for column in sealed_columns():
        header = func.substring(column.column, 1, header_bytes)
        query = select(header, func.count()).where(column.column.is_not(None)).group_by(header)
        for value, number in await tx.execute(query):
            counted[bytes(value)] += number
    return counted


async def next_values(
    tx: Transaction, column: SealedColumn, *, without_header: bytes, after: SealedValue | None, limit: int
) -> list[SealedValue]:
    """Return the next values, by primary key, that do not start with this header; none at the end."""
    keys = list(column.table.primary_key.columns)
    query = (
        select(*keys, column.column)
        .where(func.substring(column.column, 1, len(without_header)) != without_header)
        .order_by(*keys)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(*keys) > after.row)
    return [SealedValue(tuple(row[:-1]), bytes(row[-1])) for row in await tx.execute(query)]


async def replace_value(tx: Transaction, column: SealedColumn, value: SealedValue, *, sealed: bytes) -> bool:
    """Replace the value with ``sealed``; return False, and change nothing, if another writer changed it meanwhile."""
    same_row = [key == part for key, part in zip(column.table.primary_key.columns, value.row, strict=True)]
    done = await tx.execute(
        update(column.table).where(*same_row, column.column == value.sealed).values({column.column: sealed})
    )
    return bool(done.rowcount)

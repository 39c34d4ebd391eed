"""Every sealed value of the database, whatever table holds it: found by the name that sealed columns have.

Nothing here opens a value; the master key that one needs is written in its first bytes.
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
    """One column that holds sealed values."""

    table: Table
    column: Column[Any]

    @property
    def name(self) -> str:
        """Table and column."""
        return f"{self.table.name}.{self.column.name}"


@dataclass(frozen=True)
class SealedValue:
    """One sealed value and the primary key of its row."""

    row: tuple[Any, ...]
    sealed: bytes


def sealed_columns() -> list[SealedColumn]:
    """All of them, in an order that stays."""
    return [
        SealedColumn(table, column)
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name.endswith(SUFFIX)
    ]


async def count_by_header(tx: Transaction, *, header_bytes: int) -> Counter[bytes]:
    """How many values begin with each header; a header names the master key."""
    counted: Counter[bytes] = Counter()
    for one in sealed_columns():
        header = func.substring(one.column, 1, header_bytes)
        query = select(header, func.count()).where(one.column.is_not(None)).group_by(header)
        for value, number in await tx.execute(query):
            counted[bytes(value)] += number
    return counted


async def next_values(
    tx: Transaction, one: SealedColumn, *, without_header: bytes, after: SealedValue | None, limit: int
) -> list[SealedValue]:
    """The next values, by primary key, that do not begin with this header; none at the end."""
    keys = list(one.table.primary_key.columns)
    query = (
        select(*keys, one.column)
        .where(func.substring(one.column, 1, len(without_header)) != without_header)
        .order_by(*keys)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(*keys) > after.row)
    return [SealedValue(tuple(row[:-1]), bytes(row[-1])) for row in await tx.execute(query)]


async def replace_value(tx: Transaction, one: SealedColumn, value: SealedValue, *, sealed: bytes) -> bool:
    """Puts ``sealed`` in the value's place; False, and nothing changed, if a writer was there in between."""
    same_row = [key == part for key, part in zip(one.table.primary_key.columns, value.row, strict=True)]
    done = await tx.execute(update(one.table).where(*same_row, one.column == value.sealed).values({one.column: sealed}))
    return bool(done.rowcount)

"""Counting proofs that failed, the same way for passwords and for access keys.

The count and the lock stand in the row of what is to be proven, so that the look-up brings them along, every
replica sees them, and a proof that succeeds writes nothing unless one before it had failed.
"""

from sqlalchemy import ColumnElement, Table, case, func, null, or_, update
from sqlalchemy.sql.functions import coalesce

from pilothouse.store.database import Transaction


def is_locked(table: Table) -> ColumnElement[bool]:
    """Whether the row is locked now, by the database's clock, as a column."""
    return coalesce(table.c.locked_until > func.clock_timestamp(), False)


async def count_failure(tx: Transaction, table: Table, key: str, *, most: int, lock_seconds: float) -> bool:
    """Counts one failure; more than ``most`` in a row lock the row for so long. True if it is locked now."""
    over = table.c.locked_until <= func.clock_timestamp()
    count = case((over, 1), else_=table.c.failures + 1)
    until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lock_seconds)
    statement = (
        update(table)
        # Failures that were under way when the lock fell do not make it longer.
        .where(table.c.id == key, or_(table.c.locked_until.is_(None), over))
        .values(failures=count, locked_until=case((count > most, until), else_=null()))
        .returning(table.c.locked_until)
    )
    row = (await tx.execute(statement)).one_or_none()
    return row is None or row[0] is not None


async def forget_failures(tx: Transaction, table: Table, key: str) -> None:
    """Starts the count anew, and lifts a lock."""
    await tx.execute(update(table).where(table.c.id == key).values(failures=0, locked_until=None))

"""Counters of wrong signatures per access key, for installations that lock keys as the vendor does.

Counter and lock are columns of the key's row, so that the lookup returns them, every replica sees them, and a
successful request writes nothing unless an earlier one had failed.
"""

from sqlalchemy import ColumnElement, case, func, null, or_, update
from sqlalchemy.sql.functions import coalesce

from pilothouse.store.database import Transaction
from pilothouse.store.tables import access_keys

#: Whether the key is locked now, by the database's clock.
IS_LOCKED: ColumnElement[bool] = coalesce(access_keys.c.locked_until > func.clock_timestamp(), False)


async def count_failure(tx: Transaction, access_key: str, *, most: int, lock_seconds: float) -> bool:
    """Count a wrong signature; more than ``most`` in a row lock the key. Return True if it is locked now."""
    over = access_keys.c.locked_until <= func.clock_timestamp()
    count = case((over, 1), else_=access_keys.c.failures + 1)
    until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lock_seconds)
    statement = (
        update(access_keys)
        # Failures that were under way when the lock fell do not make it longer.
        .where(access_keys.c.id == access_key, or_(access_keys.c.locked_until.is_(None), over))
        .values(failures=count, locked_until=case((count > most, until), else_=null()))
        .returning(access_keys.c.locked_until)
    )
    row = (await tx.execute(statement)).one_or_none()
    return row is None or row[0] is not None


async def forget_failures(tx: Transaction, access_key: str) -> None:
    """Reset the counter and lift a lock, after a valid signature."""
    await tx.execute(update(access_keys).where(access_keys.c.id == access_key).values(failures=0, locked_until=None))

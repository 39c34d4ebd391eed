"""Counters of wrong passwords by user and address: guessing from one address locks the user for that address only.

The counters are in the database, so that every replica sees them. A row lasts for an hour after the last failure; a
successful log-in writes nothing unless an earlier one had failed.
"""

from datetime import timedelta

from sqlalchemy import ColumnElement, Text, and_, bindparam, case, delete, func, literal, null, or_, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.functions import coalesce

from pilothouse.store.database import Transaction
from pilothouse.store.tables import password_failures as failures
from pilothouse.store.tables import users

_FORGOTTEN_SECONDS = 3600.0
_SWEPT_AT_ONCE = 1000

#: For queries about one user and the address ``from_address``.
HERE = and_(failures.c.user_id == users.c.id, failures.c.address == bindparam("from_address", type_=Text))
IS_LOCKED = coalesce(failures.c.locked_until > func.clock_timestamp(), False)
#: When the last of a user's locks ends; NULL if there is none.
LOCKED_UNTIL = (
    select(func.max(failures.c.locked_until))
    .where(failures.c.user_id == users.c.id, failures.c.locked_until > func.clock_timestamp())
    .correlate(users)
    .scalar_subquery()
)


async def count(tx: Transaction, user_id: str, *, address: str, most: int, lock_seconds: float) -> bool:
    """Count one failure; more than ``most`` in a row lock the user for the address. Return True if it is locked now."""
    over = or_(failures.c.locked_until <= func.clock_timestamp(), _is_forgotten())
    number = case((over, 1), else_=failures.c.failures + 1)
    until = func.clock_timestamp() + _seconds(lock_seconds)
    statement = (
        postgresql.insert(failures)
        .values(user_id=user_id, address=address, failures=1, failed_at=func.clock_timestamp())
        .on_conflict_do_update(
            index_elements=[failures.c.user_id, failures.c.address],
            set_={
                "failures": number,
                "locked_until": case((number > most, until), else_=null()),
                "failed_at": func.clock_timestamp(),
            },
            # Failures that were under way when the lock fell do not make it longer.
            where=or_(failures.c.locked_until.is_(None), over),
        )
        .returning(failures.c.locked_until)
    )
    row = (await tx.execute(statement)).one_or_none()
    return row is None or row[0] is not None


async def forget(tx: Transaction, user_id: str, *, address: str | None = None) -> None:
    """Reset the counter of the address, or (None) lift all locks of the user."""
    statement = delete(failures).where(failures.c.user_id == user_id)
    await tx.execute(statement if address is None else statement.where(failures.c.address == address))


async def sweep(tx: Transaction) -> int:
    """Delete expired counters, at most 1,000; return how many."""
    some = (
        select(failures.c.user_id, failures.c.address)
        .where(_is_forgotten())
        .limit(_SWEPT_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("some")
    )
    mine = and_(failures.c.user_id == some.c.user_id, failures.c.address == some.c.address)
    return (await tx.execute(delete(failures).where(mine))).rowcount


def _is_forgotten() -> ColumnElement[bool]:
    return and_(
        failures.c.failed_at < func.clock_timestamp() - _seconds(_FORGOTTEN_SECONDS),
        or_(failures.c.locked_until.is_(None), failures.c.locked_until < func.clock_timestamp()),
    )


def _seconds(number: float) -> ColumnElement[timedelta]:
    return literal(timedelta(seconds=number))

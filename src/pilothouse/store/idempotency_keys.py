"""Queries about idempotency keys and the requests that they belong to.

A key is claimed by the transaction that makes the change: a refused request leaves none.
"""

from dataclasses import dataclass, field, fields

from sqlalchemy import ColumnElement, Double, Integer, bindparam, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql

from pilothouse.errors import KeyUsed
from pilothouse.store.database import Transaction
from pilothouse.store.operations import OperationRow, as_interval
from pilothouse.store.tables import idempotency_keys, operations


@dataclass(frozen=True)
class NewKey:
    """A key to be claimed: the client's text and its request. An older one than ``life_seconds`` is ignored."""

    key: str
    record_sealed: bytes = field(repr=False)
    life_seconds: float


@dataclass(frozen=True)
class FoundKey:
    """The request of a key, and the current state of its operation."""

    record_sealed: bytes = field(repr=False)
    operation: OperationRow


_IS_OLD = idempotency_keys.c.created_at < func.clock_timestamp() - as_interval(bindparam("key_seconds", type_=Double))
_OF_KEY = (
    idempotency_keys.c.project_id == bindparam("key_project"),
    idempotency_keys.c.user_id == bindparam("key_user"),
    idempotency_keys.c.key == bindparam("key_text"),
)
_GIVEN = {
    "project_id": "key_project",
    "user_id": "key_user",
    "key": "key_text",
    "operation_id": "key_operation",
    "record_sealed": "key_record",
}


async def claim(tx: Transaction, new: NewKey, *, project_id: str, user_id: str, operation_id: str) -> None:
    """Claim the key for the operation; raise KeyUsed if it belongs to another. One writer at a time."""
    params = claim_parameters(new, project_id=project_id, user_id=user_id, operation_id=operation_id)
    if (await tx.execute(_CLAIM, params)).first() is None:
        raise key_used_error(new.key)


def claim_parameters(new: NewKey, *, project_id: str, user_id: str, operation_id: str) -> dict[str, object]:
    """Return the parameters for ``claiming``."""
    return {
        "key_project": project_id,
        "key_user": user_id,
        "key_text": new.key,
        "key_operation": operation_id,
        "key_record": new.record_sealed,
        "key_seconds": new.life_seconds,
    }


def claiming(*conditions: ColumnElement[bool]) -> postgresql.Insert:
    """Build a statement that returns a row if the conditions hold and the key was claimed, else changes nothing."""
    row = select(*(bindparam(name, type_=idempotency_keys.c[column].type) for column, name in _GIVEN.items()))
    insert = postgresql.insert(idempotency_keys).from_select(list(_GIVEN), row.where(*conditions))
    return insert.on_conflict_do_update(
        index_elements=[idempotency_keys.c.project_id, idempotency_keys.c.user_id, idempotency_keys.c.key],
        set_={
            "operation_id": insert.excluded.operation_id,
            "record_sealed": insert.excluded.record_sealed,
            "created_at": func.clock_timestamp(),
        },
        where=_IS_OLD,
    )


def is_used() -> ColumnElement[bool]:
    """Build the condition that a key of the ``claim_parameters`` is in use."""
    return select(idempotency_keys.c.key).where(*_OF_KEY, ~_IS_OLD).exists()


def key_used_error(key: str) -> KeyUsed:
    """Return the error for a key that was used for a different request."""
    return KeyUsed(f"Idempotency-Key: {key!r} was already used for a different request; send this one with a new key")


async def find_key(tx: Transaction, *, project_id: str, user_id: str, key: str, life_seconds: float) -> FoundKey | None:
    """Return the request of the key, if it is not older than ``life_seconds``."""
    params = {"key_project": project_id, "key_user": user_id, "key_text": key, "key_seconds": life_seconds}
    row = (await tx.execute(_FIND, params)).mappings().one_or_none()
    if row is None:
        return None
    return FoundKey(row["record"], OperationRow(**{field.name: row[field.name] for field in fields(OperationRow)}))


async def expire(tx: Transaction, *, life_seconds: float, limit: int) -> int:
    """Delete at most ``limit`` keys that are older; return how many."""
    return (await tx.execute(_EXPIRE, {"key_seconds": life_seconds, "most": limit})).rowcount


_OLDEST = (
    # Skipping locked rows: sweeps of several workers neither wait for each other nor deadlock.
    select(idempotency_keys.c.project_id, idempotency_keys.c.user_id, idempotency_keys.c.key)
    .where(_IS_OLD)
    .order_by(idempotency_keys.c.created_at)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte("oldest")  # which runs once, so the limit holds
)
_EXPIRE = delete(idempotency_keys).where(
    tuple_(idempotency_keys.c.project_id, idempotency_keys.c.user_id, idempotency_keys.c.key).in_(select(_OLDEST))
)
_FIND = (
    select(operations, idempotency_keys.c.record_sealed.label("record"))
    .join(operations, operations.c.id == idempotency_keys.c.operation_id)
    .where(*_OF_KEY, ~_IS_OLD)
)
_CLAIM = claiming().returning(idempotency_keys.c.key)

"""Events of operations, for people and programs. Append-only.

Ids of one operation grow in the order in which its events are committed, so a reader that has seen one id has seen
every lower one. For that, a writer waits for the transaction of the previous one.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Integer, Text, bindparam, func, insert, select, text
from sqlalchemy.dialects.postgresql import distinct_on

from pilothouse.store.database import Transaction
from pilothouse.store.operations import EVENTS_CHANNEL
from pilothouse.store.tables import operation_events, operations
from pilothouse.store.texts import sanitize, sanitize_data

_LONGEST = 4000


@dataclass(frozen=True)
class EventRow:
    """One event; ``kind`` is a snake_case verb phrase for programs, ``text`` is for people, ``data`` for programs."""

    id: int
    at: datetime
    attempt: int
    kind: str
    text: str
    data: dict[str, Any] | None


def event_key(operation_id: str) -> str:
    """Return the operation's key on ``EVENTS_CHANNEL``."""
    return f"operation:{operation_id}"


async def add_event(
    tx: Transaction, operation_id: str, *, attempt: int, kind: str, text: str, data: dict[str, Any] | None = None
) -> None:
    """Insert an event and notify readers on commit."""
    params = {"of_operation": operation_id, "in_attempt": attempt, "of_kind": kind, "said": sanitize(text[:_LONGEST])}
    await tx.execute(_ADD, params | {"with_data": sanitize_data(data)})


async def list_events(tx: Transaction, operation_id: str, *, after: int = 0, limit: int) -> list[EventRow]:
    """Return the events after that id, oldest first."""
    rows = await tx.execute(_LIST, {"of_operation": operation_id, "after": after, "most": limit})
    return [EventRow(**row) for row in rows.mappings()]


async def list_newest_events(tx: Transaction, operation_id: str, *, limit: int) -> list[EventRow]:
    """Return the newest events, oldest first."""
    rows = await tx.execute(_LIST_NEWEST, {"of_operation": operation_id, "most": limit})
    return [EventRow(**row) for row in rows.mappings()][::-1]


async def list_progress(tx: Transaction, operation_ids: Collection[str]) -> dict[str, str]:
    """Return the newest text of progress of each of these operations that has one in its present attempt."""
    newest = (
        select(operation_events.c.operation_id, operation_events.c.text)
        .ext(distinct_on(operation_events.c.operation_id))
        .join(operations, operations.c.id == operation_events.c.operation_id)
        .where(
            operation_events.c.operation_id.in_(operation_ids),
            operation_events.c.attempt == operations.c.attempt,
            operation_events.c.kind.like("%\\_progress"),
        )
        .order_by(operation_events.c.operation_id, operation_events.c.id.desc())
    )
    return {row.operation_id: row.text for row in await tx.execute(newest)}


_OF_OPERATION = bindparam("of_operation", type_=Text)
_IN_TURN = (
    select(func.pg_advisory_xact_lock(func.hashtextextended("operation_events/" + _OF_OPERATION, 0)).label("mine"))
    .cte("in_turn")
    .prefix_with("MATERIALIZED")
)
_ADD = (
    insert(operation_events)
    .from_select(
        ["operation_id", "attempt", "kind", "text", "data"],
        select(
            _OF_OPERATION,
            bindparam("in_attempt", type_=Integer),
            bindparam("of_kind", type_=Text),
            bindparam("said", type_=Text),
            bindparam("with_data", type_=operation_events.c.data.type),
        ).select_from(_IN_TURN),
    )
    .returning(func.pg_notify(EVENTS_CHANNEL, text("'operation:' || operation_id")))
)
_EVENTS = (
    select(
        operation_events.c.id,
        operation_events.c.at,
        operation_events.c.attempt,
        operation_events.c.kind,
        operation_events.c.text,
        operation_events.c.data,
    )
    .where(operation_events.c.operation_id == _OF_OPERATION)
    .limit(bindparam("most", type_=Integer))
)
_LIST = _EVENTS.where(operation_events.c.id > bindparam("after", type_=BigInteger)).order_by(operation_events.c.id)
_LIST_NEWEST = _EVENTS.order_by(operation_events.c.id.desc())

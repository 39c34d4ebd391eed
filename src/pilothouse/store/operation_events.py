"""Events of operations, for people and programs. Append-only.

Ids of one operation grow in the order in which its events are committed, so a reader that has seen one id has seen
every lower one. For that, a writer waits for the transaction of the previous one.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Integer, Select, Text, and_, bindparam, func, insert, select, text, union_all
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.sql.dml import ReturningInsert

from pilothouse.states import HELD_STATES
from pilothouse.store.database import Transaction
from pilothouse.store.operations import EVENTS_CHANNEL
from pilothouse.store.tables import in_states, operation_events, operations
from pilothouse.store.texts import sanitize, sanitize_data

_LONGEST = 4000
#: Of lines of the log of a hook or test; ``data`` has them, and where they are from.
HOOK_LOG = "hook_log"


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
    await tx.execute(_ADD, _parameters(operation_id, attempt, kind, text, data))


async def add_event_of_attempt(
    tx: Transaction, operation_id: str, *, attempt: int, kind: str, text: str, data: dict[str, Any] | None = None
) -> bool:
    """Do the same if that attempt holds the operation; return whether it does."""
    added = await tx.execute(_ADD_IF_HELD, _parameters(operation_id, attempt, kind, text, data))
    return added.first() is not None


def _parameters(operation_id: str, attempt: int, kind: str, said: str, data: dict[str, Any] | None) -> dict[str, Any]:
    params = {"of_operation": operation_id, "in_attempt": attempt, "of_kind": kind, "said": sanitize(said[:_LONGEST])}
    return params | {"with_data": sanitize_data(data)}


async def list_events(
    tx: Transaction, operation_id: str, *, after: int = 0, limit: int, logs: bool = True
) -> list[EventRow]:
    """Return the events after that id, oldest first; without ``logs`` none with lines of logs."""
    rows = await tx.execute(
        _LIST if logs else _LIST_WITHOUT_LOGS, {"of_operation": operation_id, "after": after, "most": limit}
    )
    return [EventRow(**row) for row in rows.mappings()]


async def list_newest_events(tx: Transaction, operation_id: str, *, limit: int, most_logs: int) -> list[EventRow]:
    """Return the newest events, oldest first: so many with lines of logs, and so many others."""
    rows = await tx.execute(_LIST_NEWEST, {"of_operation": operation_id, "most": limit, "most_logs": most_logs})
    return [EventRow(**row) for row in rows.mappings()]


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
_IN_ATTEMPT = bindparam("in_attempt", type_=Integer)
_EVENT = select(
    _OF_OPERATION,
    _IN_ATTEMPT,
    bindparam("of_kind", type_=Text),
    bindparam("said", type_=Text),
    bindparam("with_data", type_=operation_events.c.data.type),
)
_IS_HELD = and_(
    operations.c.id == _OF_OPERATION,
    operations.c.attempt == _IN_ATTEMPT,
    in_states(HELD_STATES),
    operations.c.lease_until.is_not(None),
)


def _adding(event: Select[Any]) -> ReturningInsert[Any]:
    return (
        insert(operation_events)
        .from_select(["operation_id", "attempt", "kind", "text", "data"], event)
        .returning(func.pg_notify(EVENTS_CHANNEL, text("'operation:' || operation_id")))
    )


_ADD = _adding(_EVENT.select_from(_IN_TURN))
_ADD_IF_HELD = _adding(_EVENT.select_from(_IN_TURN.join(operations, _IS_HELD)))
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
_LIST_WITHOUT_LOGS = _LIST.where(operation_events.c.kind != HOOK_LOG)
_FROM_THE_END = _EVENTS.order_by(operation_events.c.id.desc())
# in one statement, so that both are as of one moment
_LIST_NEWEST = union_all(
    _FROM_THE_END.where(operation_events.c.kind != HOOK_LOG).subquery().select(),
    _FROM_THE_END.where(operation_events.c.kind == HOOK_LOG)
    .limit(bindparam("most_logs", type_=Integer))
    .subquery()
    .select(),
).order_by("id")

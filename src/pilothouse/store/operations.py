"""Queries about operations: the row is the truth about accepted work.

Times are the database's ``clock_timestamp()``, never a worker's clock. How an operation begins: ``submit``; what an
attempt at it writes: ``attempts``.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    and_,
    bindparam,
    case,
    false,
    func,
    not_,
    null,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)

from pilothouse.states import LIVING_STATES, Action, OperationState
from pilothouse.store.database import Transaction
from pilothouse.store.places import Place, among
from pilothouse.store.tables import IN_ORDER, in_states, operations, users

#: The channel on which an accepted operation is announced.
CHANNEL = "pilothouse_operations"
#: The channel on which callers hear of ends (the payload is ``release_key``) and of events (see operation_events).
EVENTS_CHANNEL = "pilothouse_operation_news"


@dataclass(frozen=True)
class NewOperation:
    """The part of an operation that the caller sets; the database sets the rest."""

    id: str
    project_id: str
    user_id: str
    cluster_id: str
    api_server: str
    namespace: str
    release_name: str
    action: str
    chart_digest: str | None
    chart_id: str
    chart_name: str
    chart_version: str
    request_sealed: bytes | None = field(repr=False)
    shown_sealed: bytes | None = field(repr=False)
    include_hooks: bool
    revision: int | None
    base_revision: int | None
    base_uid: str
    base_version: str
    description: str
    status_description: str
    deadline_seconds: int
    request_id: str
    plan_id: str | None = field(default=None, kw_only=True)
    trace_parent: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class OperationRow(NewOperation):
    """One operation in its current state; the order is sealed, and dropped after the end."""

    state: str
    queue_position: int
    order_bytes: int
    pinned_digest: str | None
    last_writing_attempt: int | None
    wrote_revision: bool
    dismissed_at: datetime | None
    attempt: int
    crashes: int
    lapsed_attempt: int | None
    last_error: str
    worker: str
    lease_until: datetime | None
    taken_at: datetime | None
    not_before: datetime | None
    created_at: datetime
    cancelling_at: datetime | None
    keep_resources: bool
    cancel_deletes: bool
    restore_revision: int | None
    undo_revision: int | None
    started_at: datetime | None
    finished_at: datetime | None
    answers_until: datetime | None
    failure: str


async def announce(tx: Transaction) -> None:
    """Wake the workers when the transaction commits."""
    await tx.execute(_ANNOUNCE)


def release_key(cluster_id: str, namespace: str, release_name: str) -> str:
    """Return the release's key on ``EVENTS_CHANNEL``."""
    return f"{cluster_id}/{namespace}/{release_name}"


async def cancel(
    tx: Transaction, operation_id: str, *, keep: bool, deletes: bool = False, underway: str, ended: str
) -> OperationRow | None:
    """Cancel the operation if nothing of it was begun, else mark it as cancelling; None if it was, or has ended.

    ``underway`` and ``ended`` are the status descriptions for the two cases; ``keep``: an install is not removed;
    ``deletes``: what it was to replace is removed, too. Its worker notices at the next lease renewal; an operation
    without a worker becomes due. Crashes are counted from 0 again.
    """
    params = {"operation_id": operation_id, "keep": keep, "deletes": deletes, "underway": underway, "ended": ended}
    row = (await tx.execute(_CANCEL, params)).mappings().one_or_none()
    if row is None:
        return None
    await announce(tx)
    return OperationRow(**{name: value for name, value in row.items() if name != "announced"})


async def keep_shown(tx: Transaction, operation_id: str, *, seconds: float) -> bool:
    """Keep the displayed part of the order for that long, also after the end; return False if it is gone."""
    return (await tx.execute(_KEEP_SHOWN, {"operation_id": operation_id, "for_seconds": seconds})).rowcount == 1


async def dismiss(tx: Transaction, operation_id: str) -> bool:
    """Hide a failed operation that wrote no revision; return False if it was already hidden."""
    statement = (
        update(operations)
        .where(
            operations.c.id == operation_id,
            operations.c.dismissed_at.is_(None),
            operations.c.state == OperationState.FAILED,
        )
        .values(dismissed_at=func.clock_timestamp())
    )
    return (await tx.execute(statement)).rowcount == 1


async def find_shown(tx: Transaction, *, cluster_id: str, namespace: str, release_name: str) -> OperationRow | None:
    """Return the operation that overlays the release: an active one, else a failure that wrote no revision."""
    row = (await tx.execute(_FIND_SHOWN, of_release(cluster_id, namespace, release_name))).mappings().one_or_none()
    return OperationRow(**row) if row else None


@dataclass(frozen=True)
class OriginRow:
    """The chart and user's text of a revision, and whether its request included hooks."""

    namespace: str
    release_name: str
    revision: int
    chart_id: str
    description: str
    include_hooks: bool


async def find_origin(tx: Transaction, *, cluster_id: str, namespace: str, release_name: str) -> OriginRow | None:
    """Return the origin of the release's newest revision that an operation wrote."""
    row = (await tx.execute(_FIND_ORIGIN, of_release(cluster_id, namespace, release_name))).mappings().one_or_none()
    return OriginRow(**row) if row else None


async def list_release_origins(
    tx: Transaction, *, cluster_id: str, namespace: str, release_name: str
) -> list[OriginRow]:
    """Return the origins of all revisions of the release that operations wrote, newest first."""
    rows = await tx.execute(_LIST_RELEASE_ORIGINS, of_release(cluster_id, namespace, release_name))
    return [OriginRow(**row) for row in rows.mappings()]


async def find_operation(tx: Transaction, operation_id: str) -> OperationRow | None:
    """Return the operation of that id."""
    row = (await tx.execute(select(operations).where(operations.c.id == operation_id))).mappings().one_or_none()
    return OperationRow(**row) if row else None


async def list_operations(
    tx: Transaction,
    *,
    project_id: str,
    cluster_id: str | None,
    namespace: str | None,
    release_name: str | None,
    state: str | None,
    places: Sequence[Place] | None,
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[OperationRow]:
    """Return the project's matching operations, newest first, without their orders.

    ``places``: only operations there, unless it is None. ``before``: only those behind that time and id in this order.
    """
    params = {"cluster_id": cluster_id, "namespace": namespace, "release_name": release_name, "state": state}
    query = select(*_WITHOUT_ORDER).where(operations.c.project_id == project_id)
    for name, value in params.items():
        if value is not None:
            query = query.where(operations.c[name] == value)
    if places is not None:
        query = query.where(among(operations, places))
    if before is not None:
        query = query.where(tuple_(operations.c.created_at, operations.c.id) < tuple_(*before))
    query = query.order_by(operations.c.created_at.desc(), operations.c.id.desc()).limit(limit)
    return [OperationRow(**row) for row in (await tx.execute(query)).mappings()]


async def list_places(tx: Transaction, *, project_id: str) -> list[Place]:
    """Return where the project has operations."""
    columns = operations.c.cluster_id, operations.c.namespace
    found = await tx.execute(select(*columns).distinct().where(operations.c.project_id == project_id))
    return [(row.cluster_id, row.namespace) for row in found]


async def count_states(
    tx: Transaction, *, project_id: str, release_name: str | None
) -> list[tuple[str, str, str, int]]:
    """Return how many of the project's operations have each state, by cluster and namespace."""
    columns = operations.c.cluster_id, operations.c.namespace, operations.c.state
    query = select(*columns, func.count()).where(operations.c.project_id == project_id).group_by(*columns)
    if release_name is not None:
        query = query.where(operations.c.release_name == release_name)
    return [(row[0], row[1], row[2], row[3]) for row in await tx.execute(query)]


async def list_user_names(tx: Transaction, user_ids: Collection[str]) -> dict[str, str]:
    """Return the names of those users that there are still."""
    found = await tx.execute(select(users.c.id, users.c.name).where(users.c.id.in_(user_ids)))
    return {row.id: row.name for row in found}


async def count_before(tx: Transaction, operation_ids: Collection[str]) -> dict[str, int]:
    """Return how many operations of all projects come before each of these that waits in the queue."""
    turn = func.row_number().over(order_by=(operations.c.queue_position, operations.c.created_at)) - 1
    queue = select(operations.c.id, turn.label("before")).where(IN_ORDER).subquery()
    found = await tx.execute(select(queue.c.id, queue.c.before).where(queue.c.id.in_(operation_ids)))
    return {row.id: row.before for row in found}


async def count_workers(tx: Transaction) -> int:
    """Return how many worker processes are connected: each listens to the queue as long as it lives."""
    return int((await tx.execute(_COUNT_WORKERS)).scalar_one())


def of_release(cluster_id: str, namespace: str, release_name: str) -> dict[str, str]:
    """Return the parameters for ``OF_RELEASE``."""
    return {"of_cluster": cluster_id, "of_namespace": namespace, "of_name": release_name}


def _shown() -> ColumnElement[bool]:
    failed_before_helm = and_(
        operations.c.state == OperationState.FAILED, ~operations.c.wrote_revision, operations.c.dismissed_at.is_(None)
    )
    return or_(in_states(LIVING_STATES), failed_before_helm)


def as_interval(seconds: float | ColumnElement[float]) -> ColumnElement[timedelta]:
    """Build an interval of that many seconds."""
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


@dataclass(frozen=True)
class EndedOperation:
    """What is told of an operation that has just ended."""

    id: str
    action: str
    state: str
    attempt: int
    created_at: datetime
    finished_at: datetime | None


def ending(
    *,
    state: object,
    status_description: object,
    ended: ColumnElement[bool] | None = None,
    drops_order: ColumnElement[bool] | None = None,
    shown_as_failed: ColumnElement[bool],
) -> dict[str, Any]:
    """Return the columns of an update that ends operations, or those for which ``ended`` holds.

    Every end is written with them, and returns ``ENDED``, which announces it. ``drops_order``: by default all that end.
    """
    over = true() if ended is None else ended
    return {
        "state": state,
        "status_description": status_description,
        "finished_at": case((over, func.clock_timestamp())),
        # tests that fail leave the release as it was, so that nothing of them is shown as its status
        "dismissed_at": case(
            (and_(over, operations.c.action == Action.TEST), func.clock_timestamp()), else_=operations.c.dismissed_at
        ),
        **order_after_end(ended=over if drops_order is None else drops_order, shown_as_failed=shown_as_failed),
    }


def order_after_end(*, ended: ColumnElement[bool], shown_as_failed: ColumnElement[bool]) -> dict[str, Any]:
    """Build the columns of an update that ends operations: drops their orders except for what is still displayed.

    That is a failed install without a revision, and what a repeated Idempotency-Key is answered.
    """
    # rows of earlier releases hold both in one
    shown = func.coalesce(operations.c.shown_sealed, operations.c.request_sealed)
    return {
        "request_sealed": case((ended, None), else_=operations.c.request_sealed),
        "shown_sealed": case((and_(ended, not_(or_(shown_as_failed, IS_ANSWERED))), None), else_=shown),
    }


# What every request and every attempt runs is built once: building a statement costs more than running it.
OF_RELEASE = and_(
    operations.c.cluster_id == bindparam("of_cluster"),
    operations.c.namespace == bindparam("of_namespace"),
    operations.c.release_name == bindparam("of_name"),
)
_FIND_SHOWN = select(operations).where(OF_RELEASE, _shown()).order_by(operations.c.created_at.desc()).limit(1)
_ORIGINS = select(
    operations.c.namespace,
    operations.c.release_name,
    operations.c.revision,
    operations.c.chart_id,
    operations.c.description,
    operations.c.include_hooks,
).where(operations.c.wrote_revision)
_LIST_RELEASE_ORIGINS = _ORIGINS.where(OF_RELEASE).order_by(operations.c.created_at.desc())
_FIND_ORIGIN = _LIST_RELEASE_ORIGINS.limit(1)
_ANNOUNCE = text(f"NOTIFY {CHANNEL}")
_COUNT_WORKERS = text("""
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = :listening
""").bindparams(listening=f'LISTEN "{CHANNEL}"')
#: Tells those who wait for the release that something about it is final.
announce_end = func.pg_notify(
    EVENTS_CHANNEL, func.concat_ws("/", operations.c.cluster_id, operations.c.namespace, operations.c.release_name)
)
ENDED = (*(operations.c[field.name] for field in fields(EndedOperation)), announce_end.label("announced"))
_SEALED = ("request_sealed", "shown_sealed")
_WITHOUT_ORDER = [
    null().label(field.name) if field.name in _SEALED else operations.c[field.name] for field in fields(OperationRow)
]
IS_ANSWERED = func.coalesce(operations.c.answers_until > func.clock_timestamp(), false())
_KEEP_SHOWN = (
    update(operations)
    .where(
        operations.c.id == bindparam("operation_id"),
        func.coalesce(operations.c.shown_sealed, operations.c.request_sealed).is_not(None),
    )
    .values(
        answers_until=func.greatest(
            operations.c.answers_until, func.clock_timestamp() + as_interval(bindparam("for_seconds", type_=Double))
        )
    )
)
#: A failed install without a revision, which lies over the release until something takes its place.
FAILED_INSTALL = and_(
    operations.c.state == OperationState.FAILED,
    operations.c.action == Action.INSTALL,
    ~operations.c.wrote_revision,
    operations.c.dismissed_at.is_(None),
)
_NOT_BEGUN = and_(operations.c.state == OperationState.QUEUED, operations.c.last_writing_attempt.is_(None))
_CANCEL = (
    update(operations)
    .where(
        operations.c.id == bindparam("operation_id"),
        operations.c.state.in_([OperationState.QUEUED, OperationState.RUNNING]),
    )
    .values(
        **ending(
            state=case((_NOT_BEGUN, OperationState.CANCELLED), else_=OperationState.CANCELLING),
            status_description=case((_NOT_BEGUN, bindparam("ended")), else_=bindparam("underway")),
            ended=_NOT_BEGUN,
            shown_as_failed=false(),
        ),
        cancelling_at=func.clock_timestamp(),
        keep_resources=bindparam("keep"),
        cancel_deletes=bindparam("deletes"),
        crashes=0,
        lapsed_attempt=None,
        not_before=None,
    )
    .returning(operations, announce_end.label("announced"))
)

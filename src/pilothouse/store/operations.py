"""Queries about operations: the row is the truth about accepted work.

Times are the database's ``clock_timestamp()``, never a worker's clock. Every write of an attempt says
``WHERE id = … AND attempt = … AND state`` is a living one: a worker whose operation was taken over changes nothing.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Double,
    Text,
    Update,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from pilothouse.errors import AlreadyExists, NotFound
from pilothouse.store.database import Transaction
from pilothouse.store.tables import audit, one_writer, operations

#: The channel on which an accepted operation is announced.
CHANNEL = "pilothouse_operations"
#: The channel on which callers hear of ends (the payload is ``release_key``) and of events (see operation_events).
NEWS_CHANNEL = "pilothouse_operation_news"

LIVING = ("queued", "running", "cancelling")
_HELD = ("running", "cancelling")


@dataclass(frozen=True)
class NewOperation:
    """What the caller decides about an operation; the rest is the database's."""

    id: str
    project_id: str
    user_id: str
    cluster_id: str
    namespace: str
    release_name: str
    action: str
    chart_digest: str | None
    chart_id: str
    chart_name: str
    chart_version: str
    request_sealed: bytes
    include_hooks: bool
    revision: int | None
    base_revision: int | None
    description: str
    status_description: str
    deadline_seconds: int
    request_id: str


@dataclass(frozen=True)
class OperationRow(NewOperation):
    """One operation as it stands; the request is sealed."""

    state: str
    pinned_digest: str | None
    begun_attempt: int | None
    base_uid: str
    base_version: str
    wrote_release: bool
    dismissed_at: datetime | None
    attempt: int
    crashes: int
    lapsed_attempt: int | None
    last_error: str
    worker: str
    lease_until: datetime | None
    not_before: datetime | None
    created_at: datetime
    cancelling_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


async def accept(tx: Transaction, new: NewOperation, *, audit_action: str, looked_seconds_ago: float) -> OperationRow:
    """Inserts a queued operation with its audit row and announces it; AlreadyExists if the release has a living one.

    The same if one came and went, and left a release, since the caller looked at the cluster.
    The release's earlier failures without a revision are dismissed: the new operation is shown in their place.
    From then on the chart's archive stays until the operation is final; NotFound if it is gone already.
    It is one statement, so that it stands whole or not at all in a transaction as well as on its own.
    """
    wanted = {
        **{f"new_{name}": value for name, value in vars(new).items()},
        **_of_release(new.cluster_id, new.namespace, new.release_name),
        "for_seconds": looked_seconds_ago,
        "audit_action": audit_action,
        "audit_target": release_key(new.cluster_id, new.namespace, new.release_name),
    }
    try:
        row = (await tx.execute(_ACCEPT, wanted)).mappings().one_or_none()
    except IntegrityError as error:
        if one_writer.name and one_writer.name in str(error):
            raise _still_running(new) from error
        if "pinned_digest" in str(error.orig):
            raise NotFound(
                f"chart_id: the archive of chart {new.chart_name} {new.chart_version} was deleted while this request "
                "ran; send it again"
            ) from error
        raise
    if row is None:
        if (await tx.execute(_FIND_LIVING, wanted)).first():
            raise _still_running(new)
        raise AlreadyExists(
            f"name: release {new.release_name!r} in namespace {new.namespace!r} was just made by another request"
        )
    return OperationRow(**{name: value for name, value in row.items() if name != "announced"})


def _still_running(new: NewOperation) -> AlreadyExists:
    return AlreadyExists(
        f"another operation on release {new.release_name!r} in namespace {new.namespace!r} is still running"
    )


async def announce(tx: Transaction) -> None:
    """Wakes the workers when the transaction commits."""
    await tx.execute(_ANNOUNCE)


async def take(tx: Transaction, *, worker: str, lease_seconds: float) -> OperationRow | None:
    """Hands the oldest due operation to the worker: attempt + 1, with a lease; or None.

    A queued one is running then; one that is being cancelled stays so, for the worker to end it.
    """
    row = (await tx.execute(_TAKE, {"by_worker": worker, "for_seconds": lease_seconds})).mappings().one_or_none()
    return OperationRow(**row) if row else None


async def requeue_lapsed(tx: Transaction, *, margin_seconds: float) -> list[str]:
    """Puts operations back whose lease ended the margin ago, counting a crash each; gives their ids.

    Nobody can tell a dead worker from one that was cut off: a worker that lives takes the count back (``excuse``).
    """
    lapsed = (
        select(operations.c.id)
        .where(operations.c.state.in_(_HELD), operations.c.lease_until < _from_now(-margin_seconds))
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(operations)
        .where(operations.c.id.in_(lapsed))
        .values(
            **_PUT_BACK,
            crashes=operations.c.crashes + 1,
            lapsed_attempt=operations.c.attempt,
            last_error="the worker died, or could not reach the database in time",
        )
        .returning(operations.c.id)
    )
    ids = list((await tx.execute(statement)).scalars())
    if ids:
        await announce(tx)
    return ids


async def excuse(tx: Transaction, operation_id: str, *, attempt: int) -> bool:
    """The worker of an attempt whose lease lapsed lives: it was no crash. False when none was counted for it."""
    statement = (
        update(operations)
        .where(operations.c.id == operation_id, operations.c.lapsed_attempt == attempt)
        .values(lapsed_attempt=None, crashes=operations.c.crashes - 1)
    )
    return (await tx.execute(statement)).rowcount == 1


async def give_back(
    tx: Transaction,
    operation_id: str,
    *,
    attempt: int,
    last_error: str,
    crashed: bool = False,
    retry_seconds: float = 0.0,
) -> bool:
    """Puts a held operation back into the queue; False when the attempt no longer holds it."""
    statement = _held(operation_id, attempt).values(
        **_PUT_BACK,
        last_error=last_error,
        crashes=operations.c.crashes + int(crashed),
        not_before=_from_now(retry_seconds),
    )
    done = (await tx.execute(statement)).rowcount == 1
    await announce(tx)
    return done


@dataclass(frozen=True)
class Base:
    """The newest revision of a release as an attempt saw it before it acted: its number, and its Secret's identity."""

    revision: int
    uid: str
    version: str


async def begin(tx: Transaction, operation_id: str, *, attempt: int, base: Base | None, revision: int) -> bool:
    """Records what the attempt saw and which revision it is about to write, before it writes anything.

    False when the attempt no longer holds the operation, or it is being cancelled; then the attempt must not act.
    """
    statement = (
        _held(operation_id, attempt)
        .where(operations.c.state == "running")
        .values(
            begun_attempt=attempt,
            revision=revision,
            base_revision=base.revision if base else None,
            base_uid=base.uid if base else "",
            base_version=base.version if base else "",
        )
    )
    return (await tx.execute(statement)).rowcount == 1


async def finish(
    tx: Transaction,
    operation_id: str,
    *,
    attempt: int,
    state: str,
    status_description: str,
    revision: int | None,
    wrote_release: bool,
    cancelling: bool = False,
) -> bool:
    """Writes the outcome; False when the attempt no longer holds the operation, and then nothing changed.

    False also when the operation is being cancelled and ``cancelling`` does not say that this outcome is that end.
    """
    statement = (
        _held(operation_id, attempt)
        .where(operations.c.state == ("cancelling" if cancelling else "running"))
        .values(
            state=state,
            status_description=status_description,
            revision=func.coalesce(literal(revision), operations.c.revision),
            wrote_release=wrote_release,
            lease_until=None,
            worker="",
            finished_at=func.clock_timestamp(),
        )
        .returning(_ANNOUNCE_END)
    )
    return (await tx.execute(statement)).first() is not None


def release_key(cluster_id: str, namespace: str, release_name: str) -> str:
    """The release in the words of ``NEWS_CHANNEL``."""
    return f"{cluster_id}/{namespace}/{release_name}"


async def cancel_install(tx: Transaction, operation_id: str, *, status_description: str) -> OperationRow | None:
    """The install is cancelled if nothing of it was begun, else being cancelled; None when it has ended meanwhile.

    Its worker notices at the next renewal of its lease; one without a worker becomes due.
    """
    wanted = {"operation_id": operation_id, "said": status_description}
    row = (await tx.execute(_CANCEL_INSTALL, wanted)).mappings().one_or_none()
    if row is not None:
        await announce(tx)
    return OperationRow(**row) if row else None


async def dismiss(tx: Transaction, operation_id: str) -> bool:
    """A failure that left no revision is no longer shown; False when that was so already."""
    statement = (
        update(operations)
        .where(operations.c.id == operation_id, operations.c.dismissed_at.is_(None), operations.c.state == "failed")
        .values(dismissed_at=func.clock_timestamp())
    )
    return (await tx.execute(statement)).rowcount == 1


async def find_shown(tx: Transaction, *, cluster_id: str, namespace: str, release_name: str) -> OperationRow | None:
    """The operation that lies over the release: a living one, else a failure that left no revision."""
    row = (await tx.execute(_FIND_SHOWN, _of_release(cluster_id, namespace, release_name))).mappings().one_or_none()
    return OperationRow(**row) if row else None


@dataclass(frozen=True)
class OriginRow:
    """Which chart and which text of the user's a revision came from, and whether its request included hooks."""

    namespace: str
    release_name: str
    revision: int
    chart_id: str
    description: str
    include_hooks: bool


async def find_origin(tx: Transaction, *, cluster_id: str, namespace: str, release_name: str) -> OriginRow | None:
    """Where the newest revision came from that an operation wrote of this release."""
    row = (await tx.execute(_FIND_ORIGIN, _of_release(cluster_id, namespace, release_name))).mappings().one_or_none()
    return OriginRow(**row) if row else None


async def list_release_origins(
    tx: Transaction, *, cluster_id: str, namespace: str, release_name: str
) -> list[OriginRow]:
    """Where each revision of one release came from that an operation wrote, the last one first."""
    rows = await tx.execute(_LIST_RELEASE_ORIGINS, _of_release(cluster_id, namespace, release_name))
    return [OriginRow(**row) for row in rows.mappings()]


async def find_operation(tx: Transaction, operation_id: str) -> OperationRow | None:
    """The operation of that id."""
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
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[OperationRow]:
    """The project's operations that match, newest first; ``before``: only what follows that time and id."""
    wanted = {"cluster_id": cluster_id, "namespace": namespace, "release_name": release_name, "state": state}
    query = select(operations).where(operations.c.project_id == project_id)
    for name, value in wanted.items():
        if value is not None:
            query = query.where(operations.c[name] == value)
    if before is not None:
        query = query.where(tuple_(operations.c.created_at, operations.c.id) < tuple_(*before))
    query = query.order_by(operations.c.created_at.desc(), operations.c.id.desc()).limit(limit)
    return [OperationRow(**row) for row in (await tx.execute(query)).mappings()]


def _held(operation_id: str, attempt: int) -> Update:
    return update(operations).where(
        operations.c.id == operation_id,
        operations.c.attempt == attempt,
        operations.c.state.in_(_HELD),
    )


def _of_release(cluster_id: str, namespace: str, release_name: str) -> dict[str, str]:
    """Parameters for ``_RELEASE``."""
    return {"of_cluster": cluster_id, "of_namespace": namespace, "of_name": release_name}


def _shown() -> ColumnElement[bool]:
    failed_before_helm = and_(
        operations.c.state == "failed", ~operations.c.wrote_release, operations.c.dismissed_at.is_(None)
    )
    return or_(operations.c.state.in_(LIVING), failed_before_helm)


def _from_now(seconds: float | ColumnElement[float]) -> ColumnElement[datetime]:
    return func.clock_timestamp() + _seconds(seconds)


def _seconds(seconds: float | ColumnElement[float]) -> ColumnElement[timedelta]:
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


# What every request and every attempt runs is built once: building a statement costs more than running it.
_RELEASE = and_(
    operations.c.cluster_id == bindparam("of_cluster"),
    operations.c.namespace == bindparam("of_namespace"),
    operations.c.release_name == bindparam("of_name"),
)
_FIND_SHOWN = select(operations).where(_RELEASE, _shown()).order_by(operations.c.created_at.desc()).limit(1)
_ORIGINS = select(
    operations.c.namespace,
    operations.c.release_name,
    operations.c.revision,
    operations.c.chart_id,
    operations.c.description,
    operations.c.include_hooks,
).where(operations.c.wrote_release)
_LIST_RELEASE_ORIGINS = _ORIGINS.where(_RELEASE).order_by(operations.c.created_at.desc())
_FIND_ORIGIN = _LIST_RELEASE_ORIGINS.limit(1)
_IS_LIVING = operations.c.state.in_(LIVING)
_FIND_LIVING = select(operations.c.id).where(_RELEASE, _IS_LIVING)
_LEFT_A_RELEASE = and_(
    or_(operations.c.wrote_release, operations.c.state == "succeeded"),
    operations.c.finished_at > func.clock_timestamp() - _seconds(bindparam("for_seconds", type_=Double)),
)
# One statement, for one round trip. A living operation is looked for although the unique index refuses a second one:
# one that ends between this statement's snapshot and its insert is in the snapshot only.
_NEW = ("state", *(field.name for field in fields(NewOperation)))
_ACCEPTED = (
    insert(operations)
    .from_select(
        _NEW,
        select(
            literal("queued"),
            *(bindparam(f"new_{name}", type_=operations.c[name].type) for name in _NEW[1:]),
        ).where(~select(literal(1)).where(_RELEASE, or_(_IS_LIVING, _LEFT_A_RELEASE)).exists()),
    )
    .returning(operations)
    .cte("accepted")
)
_DISMISSED = (
    update(operations)
    .where(_RELEASE, operations.c.dismissed_at.is_(None))
    .where(operations.c.state.in_(["failed", "cancelled"]), ~operations.c.wrote_release)
    .where(select(_ACCEPTED.c.id).exists())
    .values(dismissed_at=func.clock_timestamp())
    .returning(operations.c.id)
    .cte("dismissed")
)
_AUDITED = (
    insert(audit)
    .from_select(
        ["project_id", "user_id", "action", "target", "request_id", "operation_id"],
        select(
            _ACCEPTED.c.project_id,
            _ACCEPTED.c.user_id,
            bindparam("audit_action", type_=Text),
            bindparam("audit_target", type_=Text),
            _ACCEPTED.c.request_id,
            _ACCEPTED.c.id,
        ),
    )
    .returning(audit.c.id)
    .cte("audited")
)
_ACCEPT = select(_ACCEPTED, func.pg_notify(CHANNEL, "").label("announced")).add_cte(_DISMISSED, _AUDITED)
_ANNOUNCE = text(f"NOTIFY {CHANNEL}")
_ANNOUNCE_END = func.pg_notify(
    NEWS_CHANNEL, func.concat_ws("/", operations.c.cluster_id, operations.c.namespace, operations.c.release_name)
)
_PUT_BACK = {
    "state": case((operations.c.state == "running", "queued"), else_=operations.c.state),
    "lease_until": None,
    "worker": "",
}
_NOT_BEGUN = and_(operations.c.state == "queued", operations.c.begun_attempt.is_(None))
_CANCEL_INSTALL = (
    update(operations)
    .where(operations.c.id == bindparam("operation_id"), operations.c.action == "install", _IS_LIVING)
    .values(
        state=case((_NOT_BEGUN, "cancelled"), else_="cancelling"),
        finished_at=case((_NOT_BEGUN, func.clock_timestamp())),
        cancelling_at=func.coalesce(operations.c.cancelling_at, func.clock_timestamp()),
        not_before=None,
        status_description=bindparam("said"),
    )
    .returning(operations)
)
_IS_WAITING = and_(operations.c.state.in_(["queued", "cancelling"]), operations.c.lease_until.is_(None))
_OLDEST_DUE = (
    select(operations.c.id)
    .where(_IS_WAITING)
    .where(or_(operations.c.not_before.is_(None), operations.c.not_before <= func.clock_timestamp()))
    .order_by(operations.c.created_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(operations)
    .where(operations.c.id == _OLDEST_DUE.scalar_subquery(), _IS_WAITING)
    .values(
        state=case((operations.c.state == "queued", "running"), else_=operations.c.state),
        attempt=operations.c.attempt + 1,
        worker=bindparam("by_worker"),
        lease_until=_from_now(bindparam("for_seconds", type_=Double)),
        started_at=func.coalesce(operations.c.started_at, func.clock_timestamp()),
    )
    .returning(operations)
)

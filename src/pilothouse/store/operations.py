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
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from pilothouse.errors import AlreadyExists, NotFound
from pilothouse.store.database import Transaction
from pilothouse.store.tables import audit, one_writer, operations

#: The channel on which an accepted operation is announced.
CHANNEL = "pilothouse_operations"
#: The channel on which the end of an operation is announced; the payload is ``release_key`` of its release.
ENDED_CHANNEL = "pilothouse_operations_ended"

LIVING = ("queued", "running", "cancelling")


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
    chart_digest: str
    chart_id: str
    chart_name: str
    chart_version: str
    request_sealed: bytes
    revision: int | None
    description: str
    status_description: str
    deadline_seconds: int
    request_id: str


@dataclass(frozen=True)
class OperationRow(NewOperation):
    """One operation as it stands; the request is sealed."""

    state: str
    pinned_digest: str | None
    wrote_release: bool
    dismissed_at: datetime | None
    attempt: int
    crashes: int
    last_error: str
    worker: str
    lease_until: datetime | None
    not_before: datetime | None
    created_at: datetime
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
    """Hands the oldest due queued operation to the worker: running, attempt + 1, with a lease; or None."""
    row = (await tx.execute(_TAKE, {"by_worker": worker, "for_seconds": lease_seconds})).mappings().one_or_none()
    return OperationRow(**row) if row else None


async def requeue_lapsed(tx: Transaction, *, margin_seconds: float) -> list[str]:
    """Puts operations back whose lease ended the margin ago, counting a crash each; gives their ids."""
    lapsed = (
        select(operations.c.id)
        .where(operations.c.state == "running", operations.c.lease_until < _from_now(-margin_seconds))
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(operations)
        .where(operations.c.id.in_(lapsed))
        .values(
            state="queued",
            crashes=operations.c.crashes + 1,
            lease_until=None,
            worker="",
            last_error="the worker died, or could not reach the database in time",
        )
        .returning(operations.c.id)
    )
    ids = list((await tx.execute(statement)).scalars())
    if ids:
        await announce(tx)
    return ids


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
        state="queued",
        lease_until=None,
        worker="",
        last_error=last_error,
        crashes=operations.c.crashes + int(crashed),
        not_before=_from_now(retry_seconds),
    )
    done = (await tx.execute(statement)).rowcount == 1
    await announce(tx)
    return done


async def set_expected_revision(tx: Transaction, operation_id: str, *, attempt: int, revision: int) -> bool:
    """Records which revision the attempt is about to write; False when the attempt no longer holds the operation."""
    return (await tx.execute(_held(operation_id, attempt).values(revision=revision))).rowcount == 1


async def finish(
    tx: Transaction,
    operation_id: str,
    *,
    attempt: int,
    state: str,
    status_description: str,
    revision: int | None,
    wrote_release: bool,
) -> bool:
    """Writes the outcome; False when the attempt no longer holds the operation, and then nothing changed."""
    statement = (
        _held(operation_id, attempt)
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
    """The release in the words of ``ENDED_CHANNEL``."""
    return f"{cluster_id}/{namespace}/{release_name}"


async def find_shown(tx: Transaction, *, cluster_id: str, namespace: str, release_name: str) -> OperationRow | None:
    """The operation that lies over the release: a living one, else a failure that left no revision."""
    row = (await tx.execute(_FIND_SHOWN, _of_release(cluster_id, namespace, release_name))).mappings().one_or_none()
    return OperationRow(**row) if row else None


async def list_shown(tx: Transaction, *, cluster_id: str, namespace: str | None = None) -> list[OperationRow]:
    """As find_shown, for every release of the cluster, one row each."""
    query = select(operations).where(operations.c.cluster_id == cluster_id, _shown())
    if namespace is not None:
        query = query.where(operations.c.namespace == namespace)
    query = query.distinct(operations.c.namespace, operations.c.release_name).order_by(
        operations.c.namespace, operations.c.release_name, operations.c.created_at.desc()
    )
    return [OperationRow(**row) for row in (await tx.execute(query)).mappings()]


@dataclass(frozen=True)
class OriginRow:
    """Which chart and which text of the user's a revision came from."""

    namespace: str
    release_name: str
    revision: int
    chart_id: str
    description: str


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


async def list_origins(tx: Transaction, *, cluster_id: str, namespace: str | None = None) -> list[OriginRow]:
    """As find_origin, for every release of the cluster that operations wrote."""
    query = _ORIGINS.where(operations.c.cluster_id == cluster_id)
    if namespace is not None:
        query = query.where(operations.c.namespace == namespace)
    query = query.distinct(operations.c.namespace, operations.c.release_name).order_by(
        operations.c.namespace, operations.c.release_name, operations.c.created_at.desc()
    )
    return [OriginRow(**row) for row in (await tx.execute(query)).mappings()]


async def find_operation(tx: Transaction, operation_id: str) -> OperationRow | None:
    """The operation of that id."""
    row = (await tx.execute(select(operations).where(operations.c.id == operation_id))).mappings().one_or_none()
    return OperationRow(**row) if row else None


async def count_living(tx: Transaction, *, cluster_id: str) -> int:
    """How many operations of the cluster are not final."""
    query = (
        select(func.count())
        .select_from(operations)
        .where(operations.c.cluster_id == cluster_id, operations.c.state.in_(LIVING))
    )
    return (await tx.execute(query)).scalar_one()


def _held(operation_id: str, attempt: int) -> Update:
    return update(operations).where(
        operations.c.id == operation_id,
        operations.c.attempt == attempt,
        operations.c.state.in_(["running", "cancelling"]),
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
    ENDED_CHANNEL, func.concat_ws("/", operations.c.cluster_id, operations.c.namespace, operations.c.release_name)
)
_OLDEST_DUE = (
    select(operations.c.id)
    .where(operations.c.state == "queued")
    .where(or_(operations.c.not_before.is_(None), operations.c.not_before <= func.clock_timestamp()))
    .order_by(operations.c.created_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(operations)
    .where(operations.c.id == _OLDEST_DUE.scalar_subquery(), operations.c.state == "queued")
    .values(
        state="running",
        attempt=operations.c.attempt + 1,
        worker=bindparam("by_worker"),
        lease_until=_from_now(bindparam("for_seconds", type_=Double)),
        started_at=func.coalesce(operations.c.started_at, func.clock_timestamp()),
    )
    .returning(operations)
)

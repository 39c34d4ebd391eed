"""Queries about operations: the row is the truth about accepted work.

Times are the database's ``clock_timestamp()``, never a worker's clock. What an attempt at an operation writes:
``attempts``.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Double,
    Text,
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


def _of_release(cluster_id: str, namespace: str, release_name: str) -> dict[str, str]:
    """Parameters for ``_RELEASE``."""
    return {"of_cluster": cluster_id, "of_namespace": namespace, "of_name": release_name}


def _shown() -> ColumnElement[bool]:
    failed_before_helm = and_(
        operations.c.state == "failed", ~operations.c.wrote_release, operations.c.dismissed_at.is_(None)
    )
    return or_(operations.c.state.in_(LIVING), failed_before_helm)


def as_interval(seconds: float | ColumnElement[float]) -> ColumnElement[timedelta]:
    """An interval of that length."""
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
    operations.c.finished_at > func.clock_timestamp() - as_interval(bindparam("for_seconds", type_=Double)),
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

"""Acceptance of an operation into the queue, as one statement that does everything or nothing.

The order of the queue is fair between projects: a project's first operation comes right after the current round, its
second one a round later, however many others wait. ``queue_position`` is assigned once, here, so that taking the next
operation only reads the head of an index.
"""

from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Select,
    Text,
    TextClause,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from pilothouse.errors import AlreadyExists, ArchiveGone, Busy, PilothouseError, PlanMoved
from pilothouse.store.audit import Actor, Somebody, names_of
from pilothouse.store.database import Transaction
from pilothouse.store.idempotency_keys import NewKey, claim_parameters, claiming, is_used, key_used_error
from pilothouse.store.operations import (
    CHANNEL,
    OF_RELEASE,
    NewOperation,
    OperationRow,
    as_interval,
    of_release,
    release_key,
)
from pilothouse.store.tables import (
    IN_ORDER,
    IS_HELD,
    IS_LARGE,
    OF_CLUSTERS,
    OF_PROJECTS,
    audit,
    one_application,
    one_writer,
    operations,
)

#: What the audit says of the caller beside the ids, which the operation has.
_AUDITED = ("domain_id", "user_name", "project_name", "source")
#: What was in the way can be gone when it is looked for.
_TRIES = 3


@dataclass(frozen=True)
class QueueLimits:
    """Limits of queued operations per cluster and per project, and the Retry-After beyond them.

    ``bytes_per_project``: limit of the total size of a project's large sealed orders.
    """

    per_cluster: int
    per_project: int
    retry_seconds: int
    bytes_per_project: int = 256 * 1024 * 1024


#: Orders from here on are counted in bytes, one after the other; the smaller ones are limited by their number.
LARGE: Final = 8192


async def enqueue(
    tx: Transaction,
    new: NewOperation,
    *,
    audit_action: str,
    audit_detail: str = "",
    by: Actor = Somebody(),  # noqa: B008 (immutable)
    observed_seconds_ago: float,
    limits: QueueLimits,
    key: NewKey | None = None,
) -> OperationRow:
    """Insert a queued operation with its audit row and notify workers; AlreadyExists if the release has an active one.

    Also AlreadyExists if one came and went, and left a release, since the caller looked at the cluster. Raises Busy if
    the queue of the cluster or project is full; concurrent requests can exceed the counts slightly, but not the bytes
    of large orders. Raises KeyUsed if the key, which is claimed for the operation, was already used. The release's
    earlier failures without a revision are dismissed: the new operation is displayed instead. From then on the chart's
    archive is kept until the operation is final; ArchiveGone if it is already gone. It is one statement, so it is
    atomic in a transaction and without one.
    """
    params = {
        **_parameters(new, limits, key),
        "for_seconds": observed_seconds_ago,
        "audit_action": audit_action,
        "audit_detail": audit_detail,
        **{f"audit_{name}": value for name, value in names_of(by).items() if name in _AUDITED},
    }
    refusal: PilothouseError | None = None
    try:
        for _ in range(_TRIES):
            row = (await tx.execute(_ACCEPT_WITH_KEY if key else _ACCEPT, params)).mappings().one_or_none()
            if row is not None:
                return OperationRow(**{name: value for name, value in row.items() if name != "announced"})
            refusal = await _refusal(tx, new, params, limits=limits, key=key)
            if refusal is not None:
                break
    except IntegrityError as error:
        if (conflict := _conflict(new, str(error.orig))) is not None:
            raise conflict from error
        raise
    raise refusal or Busy(
        f"release {new.release_name!r} and the queue changed while the request was being accepted; "
        "nothing was written, retry",
        retry_after_seconds=limits.retry_seconds,
    )


def _conflict(new: NewOperation, cause: str) -> PilothouseError | None:
    """Return what a violated constraint means; None if nothing that the caller did."""
    if one_writer.name and one_writer.name in cause:
        return _still_running(new)
    if one_application.name and one_application.name in cause:
        return PlanMoved(f"plan {new.plan_id} has been applied already; a plan is applied once")
    if "pinned_digest" in cause:
        return ArchiveGone(
            f"chart_id: the archive of chart {new.chart_name} {new.chart_version} was deleted while this request "
            "ran; send it again"
        )
    return None


def _parameters(new: NewOperation, limits: QueueLimits, key: NewKey | None) -> dict[str, object]:
    claimed = {}
    if key is not None:
        claimed = claim_parameters(key, project_id=new.project_id, user_id=new.user_id, operation_id=new.id)
    return {
        **{f"new_{name}": value for name, value in vars(new).items()},
        **of_release(new.cluster_id, new.namespace, new.release_name),
        "audit_target": release_key(new.cluster_id, new.namespace, new.release_name),
        "last_of_cluster": limits.per_cluster - 1,
        "last_of_project": limits.per_project - 1,
        "new_order_bytes": sum(len(part) for part in (new.request_sealed, new.shown_sealed) if part is not None),
        "most_bytes": limits.bytes_per_project,
        **claimed,
    }


async def _refusal(
    tx: Transaction, new: NewOperation, params: dict[str, object], *, limits: QueueLimits, key: NewKey | None
) -> PilothouseError | None:
    """Return why nothing was inserted; None if the obstacle is gone again."""
    found = (await tx.execute(_FIND_REFUSAL if key is None else _FIND_REFUSAL_WITH_KEY, params)).one()
    if found.living:
        return _still_running(new)
    for full, queue, most in (
        (found.cluster_full, "this cluster", limits.per_cluster),
        (found.project_full, "this project", limits.per_project),
    ):
        if full:
            return Busy(
                f"{most} operations of {queue} are already queued, the limit; nothing was written, retry later",
                retry_after_seconds=limits.retry_seconds,
            )
    if found.too_large:
        return Busy(
            f"the queued requests of this project have {found.waiting_bytes} bytes, with this one more than "
            f"{limits.bytes_per_project}, the limit; nothing was written: retry when some are done, "
            "or send smaller values",
            retry_after_seconds=limits.retry_seconds,
        )
    if found.made:
        return AlreadyExists(
            f"name: release {new.release_name!r} in namespace {new.namespace!r} was just created by another request"
        )
    return key_used_error(key.key) if key is not None and found.used else None


def _still_running(new: NewOperation) -> AlreadyExists:
    return AlreadyExists(
        f"another operation on release {new.release_name!r} in namespace {new.namespace!r} is still running"
    )


def _full(waiting: TextClause, of: ColumnElement[bool], last: str) -> ColumnElement[bool]:
    """Build the condition that the limit is reached; the scan ends there."""
    return select(literal_column("1")).where(waiting, of).offset(bindparam(last, type_=BigInteger)).limit(1).exists()


_NEW = ("state", "queue_position", "answers_until", "order_bytes", *(field.name for field in fields(NewOperation)))
_GIVEN = {name: bindparam(f"new_{name}", type_=operations.c[name].type) for name in _NEW[4:]}
# States are written out and not given as parameters, with which no plan that is kept could use the partial indexes.
_LIVES = text("state IN ('queued', 'running', 'cancelling')")
_LEFT_A_RELEASE = and_(
    text("(wrote_revision OR state = 'succeeded')"),
    operations.c.finished_at > func.clock_timestamp() - as_interval(bindparam("for_seconds", type_=Double)),
)
_CLUSTER_FULL = _full(OF_CLUSTERS, operations.c.cluster_id == _GIVEN["cluster_id"], "last_of_cluster")
_PROJECT_FULL = _full(OF_PROJECTS, operations.c.project_id == _GIVEN["project_id"], "last_of_project")
_BYTES = bindparam("new_order_bytes", type_=BigInteger)
_MOST_BYTES = bindparam("most_bytes", type_=BigInteger)
_WAITING_BYTES = (
    select(func.coalesce(func.sum(operations.c.order_bytes), literal_column("0")).cast(BigInteger))
    .where(IS_LARGE, operations.c.project_id == _GIVEN["project_id"])
    .scalar_subquery()
)
_TOO_LARGE = and_(literal_column(str(LARGE)) <= _BYTES, _WAITING_BYTES + _BYTES > _MOST_BYTES)
# Large orders of a project are accepted one after the other; CASE, because AND promises no order.
_HAS_ROOM = case(
    (literal_column(str(LARGE)) > _BYTES, true()),
    else_=func.has_room_for_order(_GIVEN["project_id"], _BYTES, _MOST_BYTES, type_=Boolean),
)
# The round that is being worked on: that of the newest operation at work; of the next one if none is.
_ROUND = func.coalesce(
    select(func.max(operations.c.queue_position)).where(IS_HELD).scalar_subquery(),
    select(operations.c.queue_position)
    .where(IN_ORDER)
    .order_by(operations.c.queue_position)
    .limit(1)
    .scalar_subquery(),
    literal_column("0"),
)
_LAST_OF_PROJECT = (
    select(func.max(operations.c.queue_position))
    .where(OF_PROJECTS, operations.c.project_id == _GIVEN["project_id"])
    .scalar_subquery()
)
_TURN = func.greatest(_LAST_OF_PROJECT, _ROUND) + literal_column("1")
# A living operation is looked for although the unique index refuses a second one: one that ends between this
# statement's snapshot and its insert is in the snapshot only.
_IN_THE_WAY = select(literal_column("1")).where(OF_RELEASE, or_(_LIVES, _LEFT_A_RELEASE)).exists()


def _accepted(*, with_key: bool) -> CTE:
    answers = func.clock_timestamp() + as_interval(bindparam("key_seconds", type_=Double)) if with_key else null()
    row = select(literal_column("'queued'"), _TURN, answers, _BYTES, *_GIVEN.values())
    may = (~_IN_THE_WAY, ~_CLUSTER_FULL, ~_PROJECT_FULL, _HAS_ROOM)
    if with_key:
        claimed = claiming(*may).returning(literal_column("1").label("done")).cte("claimed")
        row = row.where(select(claimed.c.done).exists())
    else:
        row = row.where(*may)
    return insert(operations).from_select(_NEW, row).returning(operations).cte("accepted")


def _dismissed(accepted: CTE) -> CTE:
    return (
        update(operations)
        .where(OF_RELEASE, operations.c.dismissed_at.is_(None))
        .where(text("state IN ('failed', 'cancelled') AND NOT wrote_revision"))
        .where(select(accepted.c.id).exists())
        .values(dismissed_at=func.clock_timestamp())
        .returning(operations.c.id)
        .cte("dismissed")
    )


def _audited(accepted: CTE) -> CTE:
    row = select(
        accepted.c.project_id,
        accepted.c.user_id,
        bindparam("audit_action", type_=Text),
        bindparam("audit_target", type_=Text),
        bindparam("audit_detail", type_=Text),
        accepted.c.request_id,
        accepted.c.id,
        bindparam("new_release_name", type_=Text),
        *(bindparam(f"audit_{name}", type_=Text) for name in _AUDITED),
    )
    columns = ["project_id", "user_id", "action", "target", "detail", "request_id", "operation_id", "target_name"]
    return insert(audit).from_select([*columns, *_AUDITED], row).returning(audit.c.id).cte("audited")


def _accept(*, with_key: bool = False) -> Select[tuple[object, ...]]:
    """Build one statement, for one round trip."""
    accepted = _accepted(with_key=with_key)
    announced = func.pg_notify(CHANNEL, "").label("announced")
    return select(accepted, announced).add_cte(_dismissed(accepted), _audited(accepted))


# Built once: building a statement costs more than running it.
_ACCEPT, _ACCEPT_WITH_KEY = _accept(), _accept(with_key=True)
_FIND_REFUSAL = select(
    select(operations.c.id).where(OF_RELEASE, _LIVES).exists().label("living"),
    _CLUSTER_FULL.label("cluster_full"),
    _PROJECT_FULL.label("project_full"),
    _TOO_LARGE.label("too_large"),
    _WAITING_BYTES.label("waiting_bytes"),
    select(operations.c.id).where(OF_RELEASE, _LEFT_A_RELEASE).exists().label("made"),
)
_FIND_REFUSAL_WITH_KEY = _FIND_REFUSAL.add_columns(is_used().label("used"))

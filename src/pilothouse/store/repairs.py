"""Queries about repairs: the second check of a release, one lease after a taken-over or cancelled operation ended.

A repair and an operation never act on a release at the same time: a repair yields to an active operation, and an
operation that begins waits while a repair holds its lease. The later one sees the first, because each checks only after
its own row is committed. Times are the database's.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Double, and_, bindparam, func, select, text, true, update
from sqlalchemy.dialects.postgresql import insert

from pilothouse.states import LIVING_STATES
from pilothouse.store.database import Transaction
from pilothouse.store.operations import FAILED_INSTALL, as_interval, order_after_end
from pilothouse.store.tables import in_states, operations, repairs


async def remember_objects(tx: Transaction, operation_id: str, *, objects: str) -> None:
    """Store the objects (JSON) to be uninstalled, which may reappear, for the repair after the operation's end."""
    await _upsert(tx, operation_id, {"objects": objects})


async def plan_repair(tx: Transaction, operation_id: str, *, after_seconds: float) -> None:
    """Schedule a repair of the release of an operation that ends now, after ``after_seconds``."""
    await _upsert(tx, operation_id, {"due_at": func.clock_timestamp() + as_interval(after_seconds)})


@dataclass(frozen=True)
class TakenRepair:
    """A repair held exclusively until ``lease_until``; ``objects`` are those stored by ``remember_objects``."""

    operation_id: str
    objects: str
    lease_until: datetime


async def take_repair(tx: Transaction, *, lease_seconds: float) -> TakenRepair | None:
    """Take the next due repair, if there is one."""
    found = (await tx.execute(_TAKE, {"for_seconds": lease_seconds})).one_or_none()
    return TakenRepair(*found) if found else None


async def has_company(tx: Transaction, operation_id: str) -> bool:
    """Return True if an operation is active on the repair's release; call it after the take is committed."""
    living = select(operations.c.id).where(_of_same_release(), in_states(LIVING_STATES)).correlate(repairs).exists()
    return bool((await tx.execute(select(living).where(repairs.c.operation_id == operation_id))).scalar_one_or_none())


async def is_being_repaired(tx: Transaction, operation_id: str) -> bool:
    """Return True if a repair is running on the operation's release."""
    statement = select(being_repaired()).where(operations.c.id == operation_id)
    return bool((await tx.execute(statement)).scalar_one_or_none())


def being_repaired() -> ColumnElement[bool]:
    """Build the same condition, for a statement about operations."""
    return select(repairs.c.operation_id).where(_of_same_release(), ~_is_free()).correlate(operations).exists()


async def postpone_repair(tx: Transaction, taken: TakenRepair, *, seconds: float, at_most_seconds: float) -> bool:
    """Retry it in ``seconds``; return False and give up if the operation ended ``at_most_seconds`` ago.

    Here and in ``end_repair``, nothing changes if another worker has taken it since.
    """
    statement = (
        update(repairs)
        .where(
            _is_still(taken),
            operations.c.id == repairs.c.operation_id,
            operations.c.finished_at > func.clock_timestamp() - as_interval(at_most_seconds),
        )
        .values(lease_until=None, due_at=func.clock_timestamp() + as_interval(seconds))
    )
    if (await tx.execute(statement)).rowcount == 1:
        return True
    await end_repair(tx, taken)
    return False


async def postpone_cluster(tx: Transaction, taken: TakenRepair, *, seconds: float) -> None:
    """Retry what else is due in the repair's cluster in ``seconds``, but what another worker has taken."""
    await tx.execute(_POSTPONE_CLUSTER, {"of_id": taken.operation_id, "in_seconds": seconds})


async def end_repair(tx: Transaction, taken: TakenRepair) -> None:
    """Delete the finished repair and the operation's order, which nothing else needs."""
    # The operation is locked before what belongs to it, as by its deletion.
    await tx.execute(
        select(operations.c.id).where(operations.c.id == taken.operation_id).with_for_update(key_share=True)
    )
    if (await tx.execute(repairs.delete().where(_is_still(taken)))).rowcount:
        await tx.execute(_DROP_ORDER, {"of_id": taken.operation_id})


async def _upsert(tx: Transaction, operation_id: str, values: dict[str, object]) -> None:
    of_release = select(
        operations.c.id, operations.c.cluster_id, operations.c.namespace, operations.c.release_name
    ).where(operations.c.id == operation_id)
    made = insert(repairs).from_select(["operation_id", "cluster_id", "namespace", "release_name"], of_release)
    await tx.execute(made.on_conflict_do_nothing())
    await tx.execute(update(repairs).where(repairs.c.operation_id == operation_id).values(**values))


def _is_still(taken: TakenRepair) -> ColumnElement[bool]:
    return and_(repairs.c.operation_id == taken.operation_id, repairs.c.lease_until == taken.lease_until)


def _of_same_release() -> ColumnElement[bool]:
    return and_(
        operations.c.cluster_id == repairs.c.cluster_id,
        operations.c.namespace == repairs.c.namespace,
        operations.c.release_name == repairs.c.release_name,
    )


def _is_free() -> ColumnElement[bool]:
    return func.coalesce(repairs.c.lease_until < func.clock_timestamp(), text("true"))


_DROP_ORDER = (
    update(operations)
    .where(operations.c.id == bindparam("of_id"), operations.c.finished_at.is_not(None))
    .values(**order_after_end(ended=true(), shown_as_failed=FAILED_INSTALL))
)
# Built once: every worker asks every second.
_DUE = (
    select(repairs.c.operation_id)
    .where(repairs.c.due_at <= func.clock_timestamp(), _is_free())
    .order_by(repairs.c.due_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(repairs)
    # Equal to it, and not in it: a plan may run what stands in IN once for every row, and take one more each time.
    .where(repairs.c.operation_id == _DUE.scalar_subquery())
    .values(lease_until=func.clock_timestamp() + as_interval(bindparam("for_seconds", type_=Double)))
    .returning(repairs.c.operation_id, repairs.c.objects, repairs.c.lease_until)
)
_OF_CLUSTER = (
    select(repairs.c.operation_id)
    .where(
        repairs.c.cluster_id
        == select(operations.c.cluster_id).where(operations.c.id == bindparam("of_id")).scalar_subquery(),
        repairs.c.due_at <= func.clock_timestamp(),
        _is_free(),
    )
    .with_for_update(skip_locked=True)
    .cte("of_cluster")
)
_POSTPONE_CLUSTER = (
    update(repairs)
    .where(repairs.c.operation_id == _OF_CLUSTER.c.operation_id)
    .values(due_at=func.clock_timestamp() + as_interval(bindparam("in_seconds", type_=Double)))
)

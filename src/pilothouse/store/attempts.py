"""Queries of attempts at operations: taking one, holding it, giving it back, ending it.

Every write of an attempt says ``WHERE id = … AND attempt = … AND state`` is a held one: a worker whose operation was
taken over changes nothing. Times are the database's, never a worker's clock.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Select,
    Update,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from pilothouse.store.database import Transaction
from pilothouse.store.operations import OperationRow, announce, announce_end, as_interval
from pilothouse.store.repairs import being_repaired
from pilothouse.store.tables import IN_ORDER, IS_HELD, operations

_HELD = ("running", "cancelling")


async def take(
    tx: Transaction, *, worker: str, lease_seconds: float, running_per_cluster: int | None
) -> OperationRow | None:
    """Hands the due operation whose turn is next to the worker: attempt + 1, with a lease; or None.

    A queued one is running then; one that is being cancelled stays so, for the worker to end it. With
    ``running_per_cluster``, clusters that have so many at work are passed over; of workers that take at the same
    moment, each may add one.
    """
    given = {"by_worker": worker, "for_seconds": lease_seconds}
    if running_per_cluster is not None:
        given["running_per_cluster"] = running_per_cluster
    statement = _TAKE if running_per_cluster is None else _TAKE_OF_FREE_CLUSTERS
    row = (await tx.execute(statement, given)).mappings().one_or_none()
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


async def fail_overdue(tx: Transaction) -> list[str]:
    """Ends what waits beyond its deadline and never wrote anything, though no worker is free; gives the ids.

    What may have written something waits for a worker, who looks at the cluster first.
    """
    return list((await tx.execute(_FAIL_OVERDUE)).scalars())


async def end_leases(tx: Transaction, *, worker: str) -> list[str]:
    """Puts everything back that a dead worker of this name holds, counting a crash each; gives the ids.

    Only for whoever knows that it is dead: its lease is not waited for.
    """
    statement = (
        update(operations)
        .where(operations.c.state.in_(_HELD), operations.c.worker.startswith(f"{worker}:", autoescape=True))
        .values(**_PUT_BACK, crashes=operations.c.crashes + 1, last_error="the worker died")
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


@dataclass(frozen=True)
class Begun:
    """The attempt may act, once no repair is at work on its release."""

    during_repair: bool


async def begin(
    tx: Transaction, operation_id: str, *, attempt: int, base: Base | None, deployed: int | None, revision: int
) -> Begun | None:
    """Records what the attempt saw and which revision it is about to write, before it writes anything.

    ``deployed`` is the revision that was the last one deployed; of all attempts, what the first one saw counts.
    None when the attempt no longer holds the operation, or it is being cancelled; then the attempt must not act.
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
            restore_revision=case(
                (operations.c.begun_attempt.is_(None), deployed), else_=operations.c.restore_revision
            ),
        )
    )
    return await _begin(tx, statement)


async def begin_undo(tx: Transaction, operation_id: str, *, attempt: int, base: Base, revision: int) -> Begun | None:
    """The same for the revision by which an operation that is being cancelled is undone."""
    statement = (
        _held(operation_id, attempt)
        .where(operations.c.state == "cancelling")
        .values(undo_revision=revision, base_revision=base.revision, base_uid=base.uid, base_version=base.version)
    )
    return await _begin(tx, statement)


async def _begin(tx: Transaction, statement: Update) -> Begun | None:
    during_repair = (await tx.execute(statement.returning(being_repaired()))).scalar_one_or_none()
    return None if during_repair is None else Begun(during_repair=during_repair)


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
        .returning(announce_end)
    )
    return (await tx.execute(statement)).first() is not None


def _held(operation_id: str, attempt: int) -> Update:
    return update(operations).where(
        operations.c.id == operation_id,
        operations.c.attempt == attempt,
        operations.c.state.in_(_HELD),
    )


def _from_now(seconds: float | ColumnElement[float]) -> ColumnElement[datetime]:
    return func.clock_timestamp() + as_interval(seconds)


# Built once: building a statement costs more than running it.
_PUT_BACK = {
    "state": case((operations.c.state == "running", "queued"), else_=operations.c.state),
    "lease_until": None,
    "worker": "",
}
_FAIL_OVERDUE = (
    update(operations)
    .where(
        operations.c.id.in_(
            select(operations.c.id)
            .where(
                IN_ORDER,
                operations.c.state == "queued",
                operations.c.begun_attempt.is_(None),
                operations.c.created_at + as_interval(operations.c.deadline_seconds) < func.clock_timestamp(),
            )
            .with_for_update(skip_locked=True)
        )
    )
    .values(
        state="failed",
        status_description=func.concat(
            "timed out after ",
            operations.c.deadline_seconds,
            " s: ",
            func.coalesce(func.nullif(operations.c.last_error, ""), "it waited in the queue for a worker"),
        ),
        finished_at=func.clock_timestamp(),
    )
    .returning(operations.c.id, announce_end)
)
_NEXT_DUE = (
    select(operations.c.id)
    .where(IN_ORDER)
    .where(or_(operations.c.not_before.is_(None), operations.c.not_before <= func.clock_timestamp()))
    .order_by(operations.c.turn, operations.c.created_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_BUSY_CLUSTERS = (
    select(operations.c.cluster_id)
    .where(IS_HELD)
    .group_by(operations.c.cluster_id)
    .having(func.count() >= bindparam("running_per_cluster", type_=Integer))
)


def _take(next_due: Select[tuple[str]]) -> ReturningUpdate[tuple[Any, ...]]:
    return (
        update(operations)
        # the row is locked and waits; by less than that condition, or an index of what waits would be walked for the id
        .where(operations.c.id == next_due.scalar_subquery(), operations.c.lease_until.is_(None))
        .values(
            state=case((operations.c.state == "queued", "running"), else_=operations.c.state),
            attempt=operations.c.attempt + 1,
            worker=bindparam("by_worker"),
            lease_until=_from_now(bindparam("for_seconds", type_=Double)),
            started_at=func.coalesce(operations.c.started_at, func.clock_timestamp()),
        )
        .returning(operations)
    )


_TAKE = _take(_NEXT_DUE)
_TAKE_OF_FREE_CLUSTERS = _take(_NEXT_DUE.where(operations.c.cluster_id.not_in(_BUSY_CLUSTERS)))

"""Queries about attempts at operations: hold, give back, end. Taking one: ``takes``.

Every write of an attempt has the condition ``WHERE id = … AND attempt = … AND state`` is a held one: a worker whose
operation was taken over changes nothing. Times are the database's, never a worker's clock.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    ColumnElement,
    Double,
    Integer,
    RowMapping,
    Text,
    and_,
    bindparam,
    case,
    func,
    not_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from pilothouse.states import HELD_STATES, Action, OperationState
from pilothouse.store.database import Transaction
from pilothouse.store.operations import ENDED, EndedOperation, OperationRow, announce, as_interval, ending
from pilothouse.store.release_index import NewRevision, record_parameters, recording
from pilothouse.store.repairs import being_repaired
from pilothouse.store.tables import IN_ORDER, in_states, operations
from pilothouse.store.texts import sanitize


async def requeue_lapsed(tx: Transaction, *, margin_seconds: float) -> list[str]:
    """Requeue operations whose lease ended the margin ago, counting a crash for each; return their ids.

    A dead worker looks the same as one that was cut off; the latter retracts the crash (``excuse``).
    """
    ids = list((await tx.execute(_REQUEUE_LAPSED, {"seconds_ago": margin_seconds})).scalars())
    if ids:
        await announce(tx)
    return ids


async def fail_overdue(tx: Transaction) -> list[EndedOperation]:
    """Fail queued operations past their deadline that never wrote anything, even if no worker is free; return them.

    Those that may have written something wait for a worker, which reads the cluster first.
    """
    return [_ended(row) for row in (await tx.execute(_FAIL_OVERDUE)).mappings()]


async def end_leases(tx: Transaction, *, worker: str) -> list[str]:
    """Requeue everything that a dead worker of this name holds, counting a crash for each; return the ids.

    Only for callers that know that it is dead: its lease is not awaited.
    """
    statement = (
        update(operations)
        .where(in_states(HELD_STATES), operations.c.worker.startswith(f"{worker}:", autoescape=True))
        .values(**_PUT_BACK, crashes=operations.c.crashes + 1, last_error="the worker died")
        .returning(operations.c.id)
    )
    ids = list((await tx.execute(statement)).scalars())
    if ids:
        await announce(tx)
    return ids


async def excuse(tx: Transaction, operation_id: str, *, attempt: int) -> bool:
    """Undo the crash counted for an attempt whose worker turned out to be alive; return False if none was counted."""
    statement = (
        update(operations)
        .where(operations.c.id == operation_id, operations.c.lapsed_attempt == attempt)
        .values(lapsed_attempt=None, crashes=operations.c.crashes - 1)
    )
    return (await tx.execute(statement)).rowcount == 1


async def blame(tx: Transaction, operation_id: str, *, attempt: int, last_error: str) -> None:
    """Record why the lease of an attempt expired, if that was counted as a crash."""
    statement = (
        update(operations)
        .where(operations.c.id == operation_id, operations.c.lapsed_attempt == attempt)
        .values(last_error=last_error)
    )
    await tx.execute(statement)


async def give_back(
    tx: Transaction,
    operation_id: str,
    *,
    attempt: int,
    last_error: str,
    crashed: bool = False,
    retry_seconds: float = 0.0,
) -> bool:
    """Put a held operation back into the queue; return False if the attempt no longer holds it."""
    params = {
        "of_id": operation_id,
        "in_attempt": attempt,
        "cause": sanitize(last_error),
        "more_crashes": int(crashed),
        "for_seconds": retry_seconds,
    }
    done = (await tx.execute(_GIVE_BACK, params)).rowcount == 1
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
    """The attempt may act, once no repair is running on its release."""

    during_repair: bool


async def begin(
    tx: Transaction, operation_id: str, *, attempt: int, base: Base | None, deployed: int | None, revision: int
) -> Begun | None:
    """Record what the attempt saw and which revision it is about to write, before it writes anything.

    ``deployed`` is the last deployed revision; the first attempt's value is kept. Returns None if the attempt no longer
    holds the operation, or it is being cancelled; then the attempt must not act.
    """
    params = {"of_id": operation_id, "in_attempt": attempt, "next_revision": revision, "last_deployed": deployed}
    return await _begin(tx, _BEGIN, params, base)


async def begin_undo(tx: Transaction, operation_id: str, *, attempt: int, base: Base, revision: int) -> Begun | None:
    """Do the same as ``begin`` for the revision that undoes an operation being cancelled."""
    params = {"of_id": operation_id, "in_attempt": attempt, "next_revision": revision}
    return await _begin(tx, _BEGIN_UNDO, params, base)


async def _begin(
    tx: Transaction, statement: ReturningUpdate[Any], params: dict[str, object], base: Base | None
) -> Begun | None:
    of_base = {
        "newest": base.revision if base else None,
        "newest_uid": base.uid if base else "",
        "newest_version": base.version if base else "",
    }
    during_repair = (await tx.execute(statement, params | of_base)).scalar_one_or_none()
    return None if during_repair is None else Begun(during_repair=during_repair)


async def take_back(tx: Transaction, before: OperationRow) -> None:
    """Forget what the attempt has begun: nothing of it was done. ``before``: the row as the attempt has taken it."""
    names = ("base_revision", "base_uid", "base_version", "last_writing_attempt", "revision", "undo_revision")
    old = {f"old_{name}": getattr(before, name) for name in names}
    statement = _TAKE_BACK_UNDO if before.state == OperationState.CANCELLING else _TAKE_BACK
    await tx.execute(statement, {"of_id": before.id, "in_attempt": before.attempt, **old})


async def undo_failed(tx: Transaction, operation_id: str, *, attempt: int, failure: str) -> bool:
    """Turn the failed operation into one that is undone, still held by the attempt; False if it is not held."""
    params = {"of_id": operation_id, "in_attempt": attempt, "cause": sanitize(failure)}
    return (await tx.execute(_UNDO_FAILED, params)).rowcount == 1


async def finish(
    tx: Transaction,
    operation_id: str,
    *,
    attempt: int,
    state: str,
    status_description: str,
    revision: int | None,
    wrote_revision: bool,
    cancelling: bool = False,
    keep_order: bool = False,
    seen: tuple[str, NewRevision] | None = None,
) -> EndedOperation | None:
    """Write the outcome; return None, and change nothing, if the attempt no longer holds the operation.

    Also returns None if the operation is being cancelled and ``cancelling`` does not say that this outcome ends that.
    The order is dropped, unless ``keep_order`` says that a repair still has to read it. ``seen``, a revision and its
    cluster's id, is written to the release index in any case and not later than the outcome: it is true whoever holds
    the operation, and nobody learns of the end before it.
    """
    params = {
        "of_id": operation_id,
        "in_attempt": attempt,
        "from_state": OperationState.CANCELLING if cancelling else OperationState.RUNNING,
        "to_state": state,
        "said": sanitize(status_description),
        "written_revision": revision,
        "wrote": wrote_revision,
        "keep_order": keep_order,
    }
    statement, more = (_FINISH, {}) if seen is None else (_FINISH_AND_RECORD, record_parameters(*seen))
    row = (await tx.execute(statement, params | more)).mappings().first()
    return _ended(row) if row is not None else None


def _ended(row: RowMapping) -> EndedOperation:
    return EndedOperation(**{name: value for name, value in row.items() if name != "announced"})


def _from_now(seconds: float | ColumnElement[float]) -> ColumnElement[datetime]:
    return func.clock_timestamp() + as_interval(seconds)


# Built once: building a statement costs more than running it.
_PUT_BACK = {
    "state": case((operations.c.state == OperationState.RUNNING, OperationState.QUEUED), else_=operations.c.state),
    "lease_until": None,
    "worker": "",
}
_HELD_BY_ATTEMPT = update(operations).where(
    operations.c.id == bindparam("of_id"),
    operations.c.attempt == bindparam("in_attempt"),
    in_states(HELD_STATES),
    # one that is being cancelled keeps its state and its attempt when it is put back
    operations.c.lease_until.is_not(None),
)
_NEXT_REVISION: BindParameter[int] = bindparam("next_revision", type_=BigInteger)
_BASE = {
    "base_revision": bindparam("newest", type_=BigInteger),
    "base_uid": bindparam("newest_uid"),
    "base_version": bindparam("newest_version"),
}
_BEGIN = (
    _HELD_BY_ATTEMPT.where(operations.c.state == OperationState.RUNNING)
    .values(
        **_BASE,
        last_writing_attempt=operations.c.attempt,
        revision=_NEXT_REVISION,
        restore_revision=case(
            (operations.c.last_writing_attempt.is_(None), bindparam("last_deployed", type_=BigInteger)),
            else_=operations.c.restore_revision,
        ),
    )
    .returning(being_repaired())
)
_BEGIN_UNDO = (
    _HELD_BY_ATTEMPT.where(operations.c.state == OperationState.CANCELLING)
    .values(**_BASE, undo_revision=_NEXT_REVISION)
    .returning(being_repaired())
)
_OLD_BASE = {
    "base_revision": bindparam("old_base_revision", type_=BigInteger),
    "base_uid": bindparam("old_base_uid"),
    "base_version": bindparam("old_base_version"),
}
_TAKE_BACK = _HELD_BY_ATTEMPT.values(
    **_OLD_BASE,
    last_writing_attempt=bindparam("old_last_writing_attempt", type_=Integer),
    revision=bindparam("old_revision", type_=BigInteger),
)
_TAKE_BACK_UNDO = _HELD_BY_ATTEMPT.values(**_OLD_BASE, undo_revision=bindparam("old_undo_revision", type_=BigInteger))
_UNDO_FAILED = _HELD_BY_ATTEMPT.where(operations.c.state == OperationState.RUNNING).values(
    state=OperationState.CANCELLING,
    status_description=bindparam("cause"),
    failure=bindparam("cause"),
    cancelling_at=func.clock_timestamp(),
    crashes=0,
    lapsed_attempt=None,
)
_TO_STATE: BindParameter[str] = bindparam("to_state", type_=Text)
_WROTE: BindParameter[bool] = bindparam("wrote", type_=Boolean)
_FINISH = (
    _HELD_BY_ATTEMPT.where(operations.c.state == bindparam("from_state"))
    .values(
        **ending(
            state=_TO_STATE,
            status_description=bindparam("said"),
            drops_order=not_(bindparam("keep_order", type_=Boolean)),
            shown_as_failed=and_(
                _TO_STATE == OperationState.FAILED, not_(_WROTE), operations.c.action == Action.INSTALL
            ),
        ),
        revision=func.coalesce(bindparam("written_revision", type_=BigInteger), operations.c.revision),
        wrote_revision=_WROTE,
        lease_until=None,
        worker="",
    )
    .returning(*ENDED)
)
_FINISH_AND_RECORD = _FINISH.add_cte(*recording(operation_id="of_id", revision="written_revision"))
_GIVE_BACK = _HELD_BY_ATTEMPT.values(
    **_PUT_BACK,
    last_error=bindparam("cause"),
    crashes=operations.c.crashes + bindparam("more_crashes", type_=Integer),
    not_before=_from_now(bindparam("for_seconds", type_=Double)),
)
_REQUEUE_LAPSED = (
    update(operations)
    .where(
        operations.c.id.in_(
            select(operations.c.id)
            .where(
                in_states(HELD_STATES),
                operations.c.lease_until < _from_now(-bindparam("seconds_ago", type_=Double)),
            )
            .with_for_update(skip_locked=True)
        )
    )
    .values(
        **_PUT_BACK,
        crashes=operations.c.crashes + 1,
        lapsed_attempt=operations.c.attempt,
        last_error="the worker died, or could not reach the database in time",
    )
    .returning(operations.c.id)
)
_FAIL_OVERDUE = (
    update(operations)
    .where(
        operations.c.id.in_(
            select(operations.c.id)
            .where(
                IN_ORDER,
                operations.c.state == OperationState.QUEUED,
                operations.c.last_writing_attempt.is_(None),
                operations.c.created_at + as_interval(operations.c.deadline_seconds) < func.clock_timestamp(),
            )
            .with_for_update(skip_locked=True)
        )
    )
    .values(
        **ending(
            state=OperationState.FAILED,
            status_description=func.concat(
                "timed out after ",
                operations.c.deadline_seconds,
                " s: ",
                func.coalesce(func.nullif(operations.c.last_error, ""), "it waited in the queue for a worker"),
            ),
            shown_as_failed=operations.c.action == Action.INSTALL,
        )
    )
    .returning(*ENDED)
)

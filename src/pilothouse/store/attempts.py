"""Queries of attempts at operations: taking one, holding it, giving it back, ending it.

Every write of an attempt says ``WHERE id = … AND attempt = … AND state`` is a held one: a worker whose operation was
taken over changes nothing. Times are the database's, never a worker's clock.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import (
    BindParameter,
    Boolean,
    ColumnElement,
    Double,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    func,
    not_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from pilothouse.store.database import Transaction
from pilothouse.store.operations import OperationRow, announce, announce_end, as_interval, order_after_end
from pilothouse.store.release_index import NewRevision, record_parameters, recording
from pilothouse.store.repairs import being_repaired
from pilothouse.store.tables import IN_ORDER, IS_HELD, OF_SERVERS, operations
from pilothouse.store.texts import storable

_HELD = ("running", "cancelling")


@dataclass(frozen=True)
class Caps:
    """How many operations may run at a time of one project, and at one API server; None: as many as there are places.

    The first two count what one worker process holds, the others what all hold.
    """

    project_here: int | None = None
    cluster_here: int | None = None
    per_project: int | None = None
    per_cluster: int | None = None

    @classmethod
    def of_worker(cls, places: int, *, reserved: int, per_project: int | None, per_cluster: int | None) -> Self:
        """Return the caps of a worker of so many places: a project leaves more of them to others than an API server.

        Else one project could use up what its API server may have, which the other projects in it need too. With too
        few places for both, only projects have a cap.
        """
        both = places > 2 * reserved + 1
        return cls(
            project_here=max(1, places - (2 if both else 1) * reserved),
            cluster_here=places - reserved if both else None,
            per_project=per_project,
            per_cluster=per_cluster,
        )


#: Nobody is kept from anything.
NO_CAPS = Caps()


async def take(tx: Transaction, *, worker: str, lease_seconds: float, caps: Caps = NO_CAPS) -> OperationRow | None:
    """Hands the due operation whose turn is next to the worker: attempt + 1, with a lease; or None.

    A queued one is running then; one that is being cancelled stays so, for the worker to end it. ``worker`` names the
    process and, after the last colon, its place. Projects and API servers that are at a cap are passed over. Of
    processes that take at the same moment, each may go one over a cap that counts over all workers; those of one
    process hold exactly if it takes one at a time.
    """
    given = {
        "by_worker": worker,
        "of_process": worker.rsplit(":", 1)[0],
        "for_seconds": lease_seconds,
        "project_here": caps.project_here,
        "cluster_here": caps.cluster_here,
        "per_project": caps.per_project,
        "per_cluster": caps.per_cluster,
    }
    row = (await tx.execute(_TAKE, given)).mappings().one_or_none()
    return OperationRow(**row) if row else None


async def requeue_lapsed(tx: Transaction, *, margin_seconds: float) -> list[str]:
    """Puts operations back whose lease ended the margin ago, counting a crash each; gives their ids.

    Nobody can tell a dead worker from one that was cut off: a worker that lives takes the count back (``excuse``).
    """
    ids = list((await tx.execute(_REQUEUE_LAPSED, {"seconds_ago": margin_seconds})).scalars())
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
    given = {
        "of_id": operation_id,
        "in_attempt": attempt,
        "cause": storable(last_error),
        "more_crashes": int(crashed),
        "for_seconds": retry_seconds,
    }
    done = (await tx.execute(_GIVE_BACK, given)).rowcount == 1
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
    given = {"of_id": operation_id, "in_attempt": attempt, "next_revision": revision, "last_deployed": deployed}
    return await _begin(tx, _BEGIN, given, base)


async def begin_undo(tx: Transaction, operation_id: str, *, attempt: int, base: Base, revision: int) -> Begun | None:
    """The same for the revision by which an operation that is being cancelled is undone."""
    given = {"of_id": operation_id, "in_attempt": attempt, "next_revision": revision}
    return await _begin(tx, _BEGIN_UNDO, given, base)


async def _begin(
    tx: Transaction, statement: ReturningUpdate[Any], given: dict[str, object], base: Base | None
) -> Begun | None:
    of_base = {
        "newest": base.revision if base else None,
        "newest_uid": base.uid if base else "",
        "newest_version": base.version if base else "",
    }
    during_repair = (await tx.execute(statement, given | of_base)).scalar_one_or_none()
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
    keep_order: bool = False,
    seen: tuple[str, NewRevision] | None = None,
) -> bool:
    """Writes the outcome; False when the attempt no longer holds the operation, and then it stays as it is.

    False also when the operation is being cancelled and ``cancelling`` does not say that this outcome is that end.
    The order is dropped, unless ``keep_order`` says that a repair is still to read it.
    ``seen``, a revision and its cluster's id, goes into the release index in any case, and not later than the outcome:
    it is true whoever holds the operation, and nobody hears of the end before it.
    """
    given = {
        "of_id": operation_id,
        "in_attempt": attempt,
        "from_state": "cancelling" if cancelling else "running",
        "to_state": state,
        "said": storable(status_description),
        "written_revision": revision,
        "wrote": wrote_release,
        "keep_order": keep_order,
    }
    if seen is None:
        return (await tx.execute(_FINISH, given)).first() is not None
    return (await tx.execute(_FINISH_AND_RECORD, given | record_parameters(*seen))).first() is not None


def _from_now(seconds: float | ColumnElement[float]) -> ColumnElement[datetime]:
    return func.clock_timestamp() + as_interval(seconds)


# Built once: building a statement costs more than running it.
_PUT_BACK = {
    "state": case((operations.c.state == "running", "queued"), else_=operations.c.state),
    "lease_until": None,
    "worker": "",
}
_HELD_BY_ATTEMPT = update(operations).where(
    operations.c.id == bindparam("of_id"),
    operations.c.attempt == bindparam("in_attempt"),
    operations.c.state.in_(_HELD),
    # one that is being cancelled keeps its state and its attempt when it is put back
    operations.c.lease_until.is_not(None),
)
_NEXT_REVISION: BindParameter[int] = bindparam("next_revision", type_=Integer)
_BASE = {
    "base_revision": bindparam("newest", type_=Integer),
    "base_uid": bindparam("newest_uid"),
    "base_version": bindparam("newest_version"),
}
_BEGIN = (
    _HELD_BY_ATTEMPT.where(operations.c.state == "running")
    .values(
        **_BASE,
        begun_attempt=operations.c.attempt,
        revision=_NEXT_REVISION,
        restore_revision=case(
            (operations.c.begun_attempt.is_(None), bindparam("last_deployed", type_=Integer)),
            else_=operations.c.restore_revision,
        ),
    )
    .returning(being_repaired())
)
_BEGIN_UNDO = (
    _HELD_BY_ATTEMPT.where(operations.c.state == "cancelling")
    .values(**_BASE, undo_revision=_NEXT_REVISION)
    .returning(being_repaired())
)
_TO_STATE: BindParameter[str] = bindparam("to_state", type_=Text)
_WROTE: BindParameter[bool] = bindparam("wrote", type_=Boolean)
_FINISH = (
    _HELD_BY_ATTEMPT.where(operations.c.state == bindparam("from_state"))
    .values(
        state=_TO_STATE,
        status_description=bindparam("said"),
        revision=func.coalesce(bindparam("written_revision", type_=Integer), operations.c.revision),
        wrote_release=_WROTE,
        lease_until=None,
        worker="",
        finished_at=func.clock_timestamp(),
        **order_after_end(
            ended=not_(bindparam("keep_order", type_=Boolean)),
            shown_as_failed=and_(_TO_STATE == "failed", not_(_WROTE), operations.c.action == "install"),
        ),
    )
    .returning(announce_end)
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
                operations.c.state.in_(_HELD),
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
        **order_after_end(ended=true(), shown_as_failed=operations.c.action == "install"),
    )
    .returning(operations.c.id, announce_end)
)
# ruff: noqa: S608  # what is put into this statement are conditions of our own
_DUE_IN_QUEUE = (
    f"{OF_SERVERS} AND project_id = queue.project_id AND api_server = queue.api_server"
    " AND (not_before IS NULL OR not_before <= clock_timestamp())"
)
# The take walks the waiting projects and their API servers by jumps in one index, past those that are at a cap, and
# looks at the head of each queue: that thousands wait behind a cap costs it nothing.
_TAKE = text(f"""
WITH RECURSIVE held AS MATERIALIZED (
  SELECT project_id, api_server, regexp_replace(worker, ':[^:]*$', '') = :of_process AS here
  FROM operations WHERE {IS_HELD}
), full_projects AS MATERIALIZED (
  SELECT project_id FROM held GROUP BY project_id
  HAVING count(*) >= CAST(:per_project AS bigint) OR count(*) FILTER (WHERE here) >= CAST(:project_here AS bigint)
), full_servers AS MATERIALIZED (
  SELECT api_server FROM held GROUP BY api_server
  HAVING count(*) >= CAST(:per_cluster AS bigint) OR count(*) FILTER (WHERE here) >= CAST(:cluster_here AS bigint)
), waiting_projects AS (
  (SELECT project_id FROM operations WHERE {OF_SERVERS} ORDER BY project_id LIMIT 1)
  UNION ALL
  SELECT following.project_id FROM waiting_projects before CROSS JOIN LATERAL (
    SELECT project_id FROM operations WHERE {OF_SERVERS} AND project_id > before.project_id ORDER BY project_id LIMIT 1
  ) following
), queues AS (
  SELECT project.project_id, first.api_server FROM waiting_projects project CROSS JOIN LATERAL (
    SELECT api_server FROM operations WHERE {OF_SERVERS} AND project_id = project.project_id
    ORDER BY api_server LIMIT 1
  ) first
  WHERE project.project_id NOT IN (SELECT project_id FROM full_projects)
  UNION ALL
  SELECT before.project_id, following.api_server FROM queues before CROSS JOIN LATERAL (
    SELECT api_server FROM operations
    WHERE {OF_SERVERS} AND project_id = before.project_id AND api_server > before.api_server
    ORDER BY api_server LIMIT 1
  ) following
), heads AS MATERIALIZED (
  SELECT queue.project_id, queue.api_server, head.turn, head.created_at FROM queues queue CROSS JOIN LATERAL (
    SELECT turn, created_at FROM operations WHERE {_DUE_IN_QUEUE} ORDER BY turn, created_at LIMIT 1
  ) head
  WHERE queue.api_server NOT IN (SELECT api_server FROM full_servers)
), next AS MATERIALIZED (
  SELECT first.id FROM (SELECT * FROM heads ORDER BY turn, created_at) queue CROSS JOIN LATERAL (
    SELECT id FROM operations WHERE {_DUE_IN_QUEUE} ORDER BY turn, created_at LIMIT 1 FOR UPDATE SKIP LOCKED
  ) first
  LIMIT 1
)
UPDATE operations SET
  state = CASE WHEN state = 'queued' THEN 'running' ELSE state END,
  attempt = attempt + 1,
  worker = :by_worker,
  lease_until = clock_timestamp() + make_interval(secs => :for_seconds),
  started_at = coalesce(started_at, clock_timestamp())
WHERE id = (SELECT id FROM next) AND lease_until IS NULL
RETURNING operations.*
""")

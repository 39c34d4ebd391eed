"""Deleting what is over and old, in small pieces, one process at a time.

An operation whose revision still exists is kept however old it is: from it the release's views know the chart's id, the
user's description, and whether the request included hooks. So nothing that a reader needs goes before the release does,
and their number is bounded by that of the revisions.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Integer, bindparam, not_, or_, select, text, true, update

from pilothouse.store.database import Transaction
from pilothouse.store.operations import FAILED_INSTALL, IS_ANSWERED, order_after_end
from pilothouse.store.tables import operations, repairs


@dataclass(frozen=True)
class Position:
    """Up to where a walk through the ended operations has come."""

    finished_at: datetime
    operation_id: str


#: Before the first operation.
START = Position(datetime.fromtimestamp(0, UTC), "")


@dataclass(frozen=True)
class Piece:
    """A part of the walk: how many of its operations were deleted, and where to go on; None at the end."""

    deleted: int
    following: Position | None


async def is_ours(tx: Transaction) -> bool:
    """Whether nobody else deletes just now; holds until the transaction ends."""
    return bool((await tx.execute(_LOCK)).scalar_one())


async def expire_operations(tx: Transaction, *, after: Position, ended_seconds_ago: float, limit: int) -> Piece:
    """Looks at the next operations that ended that long ago and deletes those that no view needs, with their events."""
    given = {
        "finished_at": after.finished_at,
        "id": after.operation_id,
        "seconds": ended_seconds_ago,
        "most": limit,
    }
    row = (await tx.execute(_EXPIRE, given)).one()
    following = Position(row.finished_at, row.id) if row.seen == limit else None
    return Piece(row.deleted, following)


async def drop_orders(tx: Transaction, *, limit: int) -> int:
    """Drops what is left of at most that many orders and is shown to nobody any more; gives how many.

    It was shown when the operation ended: as a failure that was dismissed since, or by a key that is forgotten. Rows
    that ended in an earlier release have their whole order still.
    """
    return (await tx.execute(_DROP_ORDERS, {"most": limit})).rowcount


async def expire_audit(tx: Transaction, *, older_seconds: float, failed_seconds: float, limit: int) -> int:
    """Deletes audit rows of that age among the ``limit`` oldest, and those of failed proofs; gives how many.

    By a function of the database: it is the only way, and keeps a day whatever it is told.
    """
    given = {"seconds": older_seconds, "failed_seconds": failed_seconds, "most": limit}
    return int((await tx.execute(_EXPIRE_AUDIT, given)).scalar_one())


_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('retention', 0))")
# The two tables order their texts differently, so the comparisons say by which order.
_EXPIRE = text("""
WITH old AS (
  SELECT id, finished_at FROM operations
  WHERE finished_at < clock_timestamp() - make_interval(secs => :seconds)
    AND (finished_at, id) > (:finished_at, :id)
  ORDER BY finished_at, id LIMIT :most
), deleted AS (
  DELETE FROM operations o USING old
  WHERE o.id = old.id AND o.state IN ('succeeded', 'failed', 'cancelled') AND NOT (o.wrote_release AND EXISTS (
    SELECT FROM clusters c LEFT JOIN observations b ON b.cluster_id = c.id
    WHERE c.id = o.cluster_id AND (b.listed_at IS NULL OR EXISTS (
      SELECT FROM release_revisions r
      WHERE r.cluster_id = o.cluster_id AND r.namespace = o.namespace COLLATE "C"
        AND r.name = o.release_name COLLATE "C" AND r.gone_at IS NULL
        AND (r.revision = o.revision OR NOT EXISTS (
          SELECT FROM operations newer
          WHERE newer.cluster_id = o.cluster_id AND newer.namespace = o.namespace
            AND newer.release_name = o.release_name AND newer.wrote_release AND newer.created_at > o.created_at
        ))
    ))
  ))
  RETURNING o.id
)
SELECT (SELECT count(*) FROM deleted) AS deleted, (SELECT count(*) FROM old) AS seen, last.finished_at, last.id
FROM (SELECT 1) one LEFT JOIN (SELECT * FROM old ORDER BY finished_at DESC, id DESC LIMIT 1) last ON true
""")
_LEFT_OVER = (
    select(operations.c.id)
    .where(
        text("finished_at IS NOT NULL AND (request_sealed IS NOT NULL OR shown_sealed IS NOT NULL)"),
        or_(operations.c.request_sealed.is_not(None), not_(or_(FAILED_INSTALL, IS_ANSWERED))),
        ~select(repairs.c.operation_id).where(repairs.c.operation_id == operations.c.id).exists(),
    )
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True, of=operations)
    .cte("left_over")  # which runs once, so the limit holds
)
_DROP_ORDERS = (
    update(operations)
    .where(operations.c.id.in_(select(_LEFT_OVER.c.id)))
    .values(**order_after_end(ended=true(), shown_as_failed=FAILED_INSTALL))
)
_EXPIRE_AUDIT = text("SELECT expire_audit(:seconds, :failed_seconds, :most)")

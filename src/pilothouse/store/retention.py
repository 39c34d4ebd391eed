"""Deletion of old rows, in small batches, by one process at a time.

An operation is kept, whatever its age, while its revision exists: the release's views take the chart's id, the user's
description and the choice of hooks from it. So nothing that a reader needs is deleted before the release is, and the
number of kept rows is bounded by that of the revisions.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Integer, bindparam, not_, or_, select, text, true, update

from pilothouse.store.database import Transaction
from pilothouse.store.operations import FAILED_INSTALL, IS_ANSWERED, order_after_end
from pilothouse.store.tables import operations, repairs


@dataclass(frozen=True)
class Position:
    """The position of a scan of ended operations."""

    finished_at: datetime
    operation_id: str


#: Before the first operation.
START = Position(datetime.fromtimestamp(0, UTC), "")


@dataclass(frozen=True)
class Piece:
    """Result of one batch: how many operations were deleted, and where to continue; None at the end."""

    deleted: int
    following: Position | None


async def is_ours(tx: Transaction) -> bool:
    """Return True if no other process is deleting now; holds until the transaction ends."""
    return bool((await tx.execute(_LOCK)).scalar_one())


async def expire_operations(tx: Transaction, *, after: Position, ended_seconds_ago: float, limit: int) -> Piece:
    """Delete those of the next operations that ended that long ago that no view needs, with their events."""
    params = {
        "finished_at": after.finished_at,
        "id": after.operation_id,
        "seconds": ended_seconds_ago,
        "most": limit,
    }
    row = (await tx.execute(_EXPIRE, params)).one()
    following = Position(row.finished_at, row.id) if row.seen == limit else None
    return Piece(row.deleted, following)


async def drop_orders(tx: Transaction, *, limit: int) -> int:
    """Delete at most ``limit`` orders that are no longer displayed; return how many.

    They were displayed when the operation ended: as a failure dismissed since, or by an expired key. Rows that ended in
    an earlier version still have their whole order.
    """
    return (await tx.execute(_DROP_ORDERS, {"most": limit})).rowcount


async def expire_audit(tx: Transaction, *, older_seconds: float, failed_seconds: float, limit: int) -> int:
    """Delete audit rows of that age among the ``limit`` oldest, and those of failed proofs; return how many.

    A function of the database does it, which is the only way and always keeps the last day.
    """
    params = {"seconds": older_seconds, "failed_seconds": failed_seconds, "most": limit}
    return int((await tx.execute(_EXPIRE_AUDIT, params)).scalar_one())


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
  WHERE o.id = old.id AND o.state IN ('succeeded', 'failed', 'cancelled') AND NOT (o.wrote_revision AND EXISTS (
    SELECT FROM clusters c LEFT JOIN cluster_watches b ON b.cluster_id = c.id
    WHERE c.id = o.cluster_id AND (b.listed_at IS NULL OR EXISTS (
      SELECT FROM release_revisions r
      WHERE r.cluster_id = o.cluster_id AND r.namespace = o.namespace COLLATE "C"
        AND r.name = o.release_name COLLATE "C" AND r.gone_at IS NULL
        AND (r.revision = o.revision OR NOT EXISTS (
          SELECT FROM operations newer
          WHERE newer.cluster_id = o.cluster_id AND newer.namespace = o.namespace
            AND newer.release_name = o.release_name AND newer.wrote_revision AND newer.created_at > o.created_at
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

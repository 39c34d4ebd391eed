"""How large an order is: what waits is counted in bytes, too."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations ADD COLUMN order_bytes bigint NOT NULL DEFAULT 0;
CREATE INDEX ix_operations_large_orders ON operations (project_id, order_bytes)
  WHERE state IN ('queued', 'cancelling') AND lease_until IS NULL AND order_bytes >= 8192;
-- In a function, because each of its statements sees what was committed before it: a statement that took the lock by
-- itself would count what stood before it waited for the lock. The lock is given back when the statement around ends.
CREATE OR REPLACE FUNCTION has_room_for_order(of_project text, bytes bigint, most bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('orders/' || of_project, 0));
  RETURN bytes + coalesce((
    SELECT sum(order_bytes) FROM operations
    WHERE project_id = of_project
      AND state IN ('queued', 'cancelling') AND lease_until IS NULL AND order_bytes >= 8192
  ), 0) <= most;
END $$
""")

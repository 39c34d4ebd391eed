"""How large an order is: what waits is counted in bytes, too."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

# In a function, because each of its statements sees what was committed before it: a statement that took the lock by
# itself would count what stood before it waited for the lock. The lock is given back when the statement around ends.
_HAS_ROOM = """
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
"""


def upgrade() -> None:
    op.add_column(
        "operations",
        sa.Column(
            "order_bytes",
            sa.BigInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="of the sealed order, as it was accepted",
        ),
    )
    op.create_index(
        "ix_operations_large_orders",
        "operations",
        ["project_id", "order_bytes"],
        postgresql_where=sa.text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND order_bytes >= 8192"),
    )
    op.execute(_HAS_ROOM)
    op.alter_column(
        "operation_evidence",
        "found",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment="JSON without secrets, see worker/diagnostics/evidence.py",
        existing_comment="JSON without secrets, see worker/evidence.py",
    )

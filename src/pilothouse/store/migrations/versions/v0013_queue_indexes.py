"""Each question about the queue has one index that fits it, and no other one does."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_WAITING = "state IN ('queued', 'cancelling') AND lease_until IS NULL"


def upgrade() -> None:
    for name, columns, further in (
        ("ix_operations_queue", ["turn", "created_at"], "turn >= 0"),
        ("ix_operations_queue_of_project", ["project_id", "turn"], "project_id <> ''"),
        ("ix_operations_queue_of_cluster", ["cluster_id"], "cluster_id <> ''"),
    ):
        op.drop_index(name, table_name="operations")
        op.create_index(name, "operations", columns, postgresql_where=sa.text(f"{_WAITING} AND {further}"))

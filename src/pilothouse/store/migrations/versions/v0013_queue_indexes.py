"""Each question about the queue has one index that fits it, and no other one does."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute("""
DROP INDEX ix_operations_queue;
CREATE INDEX ix_operations_queue ON operations (turn, created_at)
  WHERE state IN ('queued', 'cancelling') AND lease_until IS NULL AND turn >= 0;
DROP INDEX ix_operations_queue_of_project;
CREATE INDEX ix_operations_queue_of_project ON operations (project_id, turn)
  WHERE state IN ('queued', 'cancelling') AND lease_until IS NULL AND project_id <> '';
DROP INDEX ix_operations_queue_of_cluster;
CREATE INDEX ix_operations_queue_of_cluster ON operations (cluster_id)
  WHERE state IN ('queued', 'cancelling') AND lease_until IS NULL AND cluster_id <> ''
""")

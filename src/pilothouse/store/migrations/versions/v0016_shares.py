"""Running operations are counted by API server, and a take looks at the queues of those that may run."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations ADD COLUMN api_server text NOT NULL DEFAULT '';
-- Only what still waits or runs is counted.
UPDATE operations SET api_server = clusters.server FROM clusters
  WHERE clusters.id = operations.cluster_id AND state IN ('queued', 'running', 'cancelling');
CREATE INDEX ix_operations_queue_of_server ON operations (project_id, api_server, turn, created_at)
  WHERE state IN ('queued', 'cancelling') AND lease_until IS NULL AND attempt >= 0
""")

"""A fair queue with limits, keys that make a repeated request harmless, and what retention walks."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations ADD COLUMN turn bigint NOT NULL DEFAULT 0;
DROP INDEX ix_operations_queue;
CREATE INDEX ix_operations_queue ON operations (turn, created_at)
  WHERE state IN ('queued', 'cancelling') AND lease_until IS NULL;
CREATE INDEX ix_operations_queue_of_project ON operations (project_id, turn)
  WHERE state IN ('queued', 'cancelling') AND lease_until IS NULL;
CREATE INDEX ix_operations_queue_of_cluster ON operations (cluster_id)
  WHERE state IN ('queued', 'cancelling') AND lease_until IS NULL;
CREATE INDEX ix_operations_finished ON operations (finished_at, id) WHERE finished_at IS NOT NULL;
CREATE TABLE idempotency_keys (
  project_id text NOT NULL CONSTRAINT fk_idempotency_keys_project_id_projects REFERENCES projects ON DELETE CASCADE,
  user_id text NOT NULL,
  key text NOT NULL,
  operation_id text NOT NULL
    CONSTRAINT fk_idempotency_keys_operation_id_operations REFERENCES operations ON DELETE CASCADE,
  record_sealed bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT pk_idempotency_keys PRIMARY KEY (project_id, user_id, key)
);
CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at);
CREATE INDEX ix_idempotency_keys_operation_id ON idempotency_keys (operation_id)
""")

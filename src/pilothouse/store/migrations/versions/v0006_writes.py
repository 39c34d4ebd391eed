"""Upgrades, rollbacks and uninstalls: what an attempt saw before it acted, and what happened on the way."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations ALTER COLUMN chart_digest DROP NOT NULL;
ALTER TABLE operations
  ADD COLUMN include_hooks boolean NOT NULL DEFAULT false,
  ADD COLUMN begun_attempt integer,
  ADD COLUMN base_revision integer,
  ADD COLUMN base_uid text NOT NULL DEFAULT '',
  ADD COLUMN base_version text NOT NULL DEFAULT '',
  ADD COLUMN lapsed_attempt integer,
  ADD COLUMN cancelling_at timestamptz;
DROP INDEX ix_operations_queue;
CREATE INDEX ix_operations_queue ON operations (created_at)
  WHERE state IN ('queued', 'cancelling') AND lease_until IS NULL;
CREATE TABLE operation_events (
  id bigserial CONSTRAINT pk_operation_events PRIMARY KEY,
  operation_id text NOT NULL
    CONSTRAINT fk_operation_events_operation_id_operations REFERENCES operations ON DELETE CASCADE,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  attempt integer NOT NULL,
  kind text NOT NULL,
  text text NOT NULL
);
CREATE INDEX ix_operation_events_operation_id ON operation_events (operation_id);
-- What an older worker began is read by the proof that it had: number and label.
UPDATE operations SET begun_attempt = attempt WHERE revision IS NOT NULL AND attempt > 0
""")

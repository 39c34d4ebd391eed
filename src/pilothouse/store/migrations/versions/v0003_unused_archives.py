"""An operation pins its chart's archive only while it lives, and archives that nothing uses can be collected."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
-- What is read in pieces must not be compressed: PostgreSQL would inflate all of it for each piece.
ALTER TABLE chart_archives ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER TABLE chart_archives ADD COLUMN unused_since timestamptz;
ALTER TABLE operations DROP CONSTRAINT fk_operations_chart_digest_chart_archives;
ALTER TABLE operations
  ADD COLUMN pinned_digest text
    GENERATED ALWAYS AS (CASE WHEN state IN ('queued', 'running', 'cancelling') THEN chart_digest END) STORED;
ALTER TABLE operations ADD CONSTRAINT fk_operations_pinned_digest_chart_archives
  FOREIGN KEY (pinned_digest) REFERENCES chart_archives (digest);
CREATE INDEX ix_operations_pinned_digest ON operations (pinned_digest) WHERE pinned_digest IS NOT NULL;
CREATE INDEX ix_charts_digest ON charts (digest)
""")

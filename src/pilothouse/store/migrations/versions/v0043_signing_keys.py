"""Which key of several signed a chart, and which keys do not count any more."""

from alembic import op

revision = "0043"
down_revision = "0042"


def upgrade() -> None:
    op.execute("""
ALTER TABLE chart_sources ADD COLUMN unusable text[] NOT NULL DEFAULT '{}';
ALTER TABLE project_trust ADD COLUMN unusable text[] NOT NULL DEFAULT '{}';
ALTER TABLE chart_verifications ADD COLUMN signing_key text;
UPDATE chart_verifications SET signing_key = fingerprint;
ALTER TABLE chart_verifications
  ALTER COLUMN signing_key SET NOT NULL,
  DROP CONSTRAINT pk_chart_verifications,
  ADD CONSTRAINT pk_chart_verifications PRIMARY KEY (project_id, digest, signing_key);
-- an older program would compare the primary keys, and take what a revoked subkey signed
UPDATE schema_compatibility SET oldest_program = '0043'
""")

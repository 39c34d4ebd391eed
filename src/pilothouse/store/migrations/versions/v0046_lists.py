"""Lists of the audit are ordered by time, so that is what their index is of; a list of plans names their releases."""

from alembic import op

revision = "0046"
down_revision = "0045"


def upgrade() -> None:
    op.execute("""
CREATE INDEX ix_audit_by_time ON audit (domain_id, at, id);
-- a program of the version before lists the audit without it, slower
DROP INDEX ix_audit_of_domain;
-- empty for plans of a version before, which are kept for an hour
ALTER TABLE plans
  ADD COLUMN namespace text NOT NULL DEFAULT '',
  ADD COLUMN release_name text NOT NULL DEFAULT '';
UPDATE schema_compatibility SET oldest_program = '0043'
""")

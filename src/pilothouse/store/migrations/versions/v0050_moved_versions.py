"""Versions of chart sources whose archive was replaced there; when a source failed; what a refusal was judged by."""

from alembic import op

revision = "0050"
down_revision = "0049"


def upgrade() -> None:
    # In the order in which a running program takes them: who has a source goes on to its versions.
    op.execute("""
ALTER TABLE chart_sources
  ADD COLUMN failed_at timestamp with time zone,
  ADD COLUMN pushed_at timestamp with time zone;
ALTER TABLE source_versions
  ADD COLUMN manifest text DEFAULT '' NOT NULL,
  ADD COLUMN moved_at timestamp with time zone,
  ADD COLUMN moved_from text DEFAULT '' NOT NULL,
  ADD COLUMN moved_to text DEFAULT '' NOT NULL;
ALTER TABLE refused_versions ADD COLUMN evidence text DEFAULT '' NOT NULL;
""")

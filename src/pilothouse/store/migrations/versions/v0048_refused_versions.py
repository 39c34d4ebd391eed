"""Versions of chart sources that could not be verified: they are not offered as updates."""

from alembic import op

revision = "0048"
down_revision = "0047"


def upgrade() -> None:
    op.execute("""
CREATE TABLE refused_versions (
  source_id text NOT NULL,
  name text NOT NULL,
  version text NOT NULL,
  digest text DEFAULT '' NOT NULL,
  reason text DEFAULT '' NOT NULL,
  refused_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
  CONSTRAINT pk_refused_versions PRIMARY KEY (source_id, name, version),
  CONSTRAINT fk_refused_versions_source_id_chart_sources
    FOREIGN KEY (source_id) REFERENCES chart_sources (id) ON DELETE CASCADE
)
""")

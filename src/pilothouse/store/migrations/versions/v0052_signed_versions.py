"""Versions of chart sources that were found to be signed before they are pulled: others are offered to nobody."""

from alembic import op

revision = "0052"
down_revision = "0051"


def upgrade() -> None:
    op.execute("""
CREATE TABLE signed_versions (
  source_id text NOT NULL,
  name text NOT NULL,
  version text NOT NULL,
  digest text DEFAULT '' NOT NULL,
  looked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
  CONSTRAINT pk_signed_versions PRIMARY KEY (source_id, name, version),
  CONSTRAINT fk_signed_versions_source_id_chart_sources
    FOREIGN KEY (source_id) REFERENCES chart_sources (id) ON DELETE CASCADE
)
""")

"""Where charts came from whose source was removed."""

from alembic import op

revision = "0051"
down_revision = "0050"


def upgrade() -> None:
    op.execute("""
CREATE TABLE removed_origins (
  chart_id text NOT NULL CONSTRAINT pk_removed_origins PRIMARY KEY,
  project_id text NOT NULL
    CONSTRAINT fk_removed_origins_project_id_projects REFERENCES projects (id) ON DELETE CASCADE,
  source text NOT NULL,
  url text NOT NULL,
  removed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
  checked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE INDEX ix_removed_origins_checked_at ON removed_origins (checked_at);
""")

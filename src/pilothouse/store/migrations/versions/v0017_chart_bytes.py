"""Which archives a project brought: their bytes count until they are collected, also when the chart has another now."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("""
CREATE TABLE project_archives (
  project_id text NOT NULL CONSTRAINT fk_project_archives_project_id_projects REFERENCES projects ON DELETE CASCADE,
  digest text NOT NULL
    CONSTRAINT fk_project_archives_digest_chart_archives REFERENCES chart_archives ON DELETE CASCADE,
  CONSTRAINT pk_project_archives PRIMARY KEY (project_id, digest)
);
CREATE INDEX ix_project_archives_digest ON project_archives (digest);
INSERT INTO project_archives (project_id, digest) SELECT DISTINCT project_id, digest FROM charts
""")

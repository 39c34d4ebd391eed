"""Let lists read all that they show from the index of the newest revisions, whose entries PostgreSQL limits."""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
UPDATE release_revisions SET status = left(status, 63), chart_name = left(chart_name, 63),
  chart_version = left(chart_version, 63), app_version = left(app_version, 63), manager = left(manager, 128)
WHERE octet_length(status) > 253 OR octet_length(chart_name) > 253 OR octet_length(chart_version) > 253
  OR octet_length(app_version) > 253 OR octet_length(manager) > 512;
DROP INDEX ix_release_revisions_newest;
CREATE INDEX ix_release_revisions_newest ON release_revisions (cluster_id, namespace, name, revision DESC)
  INCLUDE (status, chart_name, chart_version, app_version, last_deployed, manager)
  WHERE gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed);
""")

"""When revisions were uninstalled whose history was kept, as Helm has written it."""

from alembic import op

revision = "0053"
down_revision = "0052"


def upgrade() -> None:
    op.execute("""
ALTER TABLE release_revisions ADD COLUMN deleted_at timestamp with time zone;
UPDATE cluster_watches SET epoch = epoch + 1, resource_version = 0;
DROP INDEX ix_release_revisions_newest;
CREATE INDEX ix_release_revisions_newest ON release_revisions (cluster_id, namespace, name, revision DESC)
  INCLUDE (status, chart_name, chart_version, app_version, last_deployed, deleted_at, manager, origin_chart_id)
  WHERE gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed);
-- the index is there again, and the new column may be empty
UPDATE schema_compatibility SET oldest_program = '0043'
""")

"""Lists of releases over all clusters: what they show and filter by, and an index of the newest revisions."""

from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.execute("""
ALTER TABLE release_revisions
  ADD COLUMN app_version text NOT NULL DEFAULT '',
  ADD COLUMN manager text NOT NULL DEFAULT '',
  ADD COLUMN origin_operation_id text NOT NULL DEFAULT '',
  ADD COLUMN exposed boolean NOT NULL DEFAULT false;
UPDATE release_revisions top SET exposed = true
WHERE top.gone_at IS NULL AND top.problem = '' AND top.status = 'superseded' AND NOT EXISTS (
  SELECT FROM release_revisions higher
  WHERE higher.cluster_id = top.cluster_id AND higher.namespace = top.namespace AND higher.name = top.name
    AND higher.revision > top.revision AND higher.gone_at IS NULL AND higher.problem = ''
);
CREATE INDEX ix_release_revisions_newest ON release_revisions (cluster_id, namespace, name, revision DESC)
  WHERE gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed);
UPDATE cluster_watches SET epoch = epoch + 1, resource_version = 0
""")

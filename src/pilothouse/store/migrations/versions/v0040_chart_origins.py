"""From which source each pulled chart came, what is newer there, and lists that read it from their index."""

from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    op.execute("""
CREATE TABLE chart_origins (
  chart_id text NOT NULL CONSTRAINT pk_chart_origins PRIMARY KEY,
  source_id text NOT NULL
    CONSTRAINT fk_chart_origins_source_id_chart_sources REFERENCES chart_sources (id) ON DELETE CASCADE,
  name text NOT NULL,
  version text NOT NULL,
  order_key text COLLATE "C" NOT NULL,
  newer_version text NOT NULL DEFAULT '',
  newer_deprecated boolean NOT NULL DEFAULT false
);
CREATE INDEX ix_chart_origins_chart ON chart_origins (source_id, name, version);
INSERT INTO chart_origins (chart_id, source_id, name, version, order_key)
SELECT c.id, c.source_id, c.name, c.version, v.order_key
FROM charts c JOIN source_versions v ON v.source_id = c.source_id AND v.name = c.name AND v.version = c.version;
UPDATE chart_origins o SET newer_version = v.version, newer_deprecated = v.deprecated FROM source_versions v
WHERE v.source_id = o.source_id AND v.name = o.name AND v.is_newest AND v.order_key > o.order_key;
DROP INDEX ix_release_revisions_newest;
CREATE INDEX ix_release_revisions_newest ON release_revisions (cluster_id, namespace, name, revision DESC)
  INCLUDE (status, chart_name, chart_version, app_version, last_deployed, manager, origin_chart_id)
  WHERE gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed);
-- the index is there again, and what is new has defaults
UPDATE schema_compatibility SET oldest_program = '0039'
""")

"""Sources of charts, what they have, and which charts were pulled from them."""

from alembic import op

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    op.execute("""
CREATE TABLE chart_sources (
  id text NOT NULL CONSTRAINT pk_chart_sources PRIMARY KEY,
  project_id text NOT NULL CONSTRAINT fk_chart_sources_project_id_projects REFERENCES projects (id),
  name text NOT NULL,
  kind text NOT NULL CONSTRAINT ck_chart_sources_kind CHECK (kind IN ('oci', 'http')),
  url text NOT NULL,
  credentials_sealed bytea,
  ca text NOT NULL DEFAULT '',
  sync_seconds integer NOT NULL DEFAULT 0,
  etag text NOT NULL DEFAULT '',
  last_modified text NOT NULL DEFAULT '',
  synced_at timestamptz,
  problem text NOT NULL DEFAULT '',
  due_at timestamptz,
  syncing_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT uq_chart_sources_project_id_name UNIQUE (project_id, name)
);
CREATE INDEX ix_chart_sources_due ON chart_sources (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE source_versions (
  source_id text NOT NULL
    CONSTRAINT fk_source_versions_source_id_chart_sources REFERENCES chart_sources (id) ON DELETE CASCADE,
  name text NOT NULL,
  version text NOT NULL,
  order_key text COLLATE "C" NOT NULL,
  is_newest boolean NOT NULL DEFAULT false,
  is_gone boolean NOT NULL DEFAULT false,
  app_version text NOT NULL DEFAULT '',
  description text NOT NULL DEFAULT '',
  icon_url text NOT NULL DEFAULT '',
  keywords text NOT NULL DEFAULT '',
  deprecated boolean NOT NULL DEFAULT false,
  released_at timestamptz,
  url text NOT NULL DEFAULT '',
  digest text NOT NULL DEFAULT '',
  CONSTRAINT pk_source_versions PRIMARY KEY (source_id, name, version)
);
CREATE INDEX ix_source_versions_newest ON source_versions (source_id, name) WHERE is_newest;
ALTER TABLE charts
  ADD COLUMN source_id text
    CONSTRAINT fk_charts_source_id_chart_sources REFERENCES chart_sources (id) ON DELETE CASCADE,
  DROP CONSTRAINT uq_charts_project_id_name_version;
CREATE UNIQUE INDEX uq_charts_uploaded ON charts (project_id, name, version) WHERE source_id IS NULL;
CREATE UNIQUE INDEX uq_charts_pulled ON charts (source_id, name, version) WHERE source_id IS NOT NULL;
UPDATE schema_compatibility SET oldest_program = '0036';
""")

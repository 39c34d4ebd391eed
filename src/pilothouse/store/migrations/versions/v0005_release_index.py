"""The release index: what is watched in each cluster, and the revisions found there."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("""
CREATE TABLE observers (
  name text CONSTRAINT pk_observers PRIMARY KEY,
  seen_at timestamptz NOT NULL
);
CREATE TABLE observations (
  cluster_id text CONSTRAINT pk_observations PRIMARY KEY
    CONSTRAINT fk_observations_cluster_id_clusters REFERENCES clusters ON DELETE CASCADE,
  holder text NOT NULL DEFAULT '',
  lease_until timestamptz,
  epoch integer NOT NULL DEFAULT 0,
  resource_version bigint NOT NULL DEFAULT 0,
  listed_at timestamptz,
  seen_at timestamptz,
  error text NOT NULL DEFAULT ''
);
INSERT INTO observations (cluster_id) SELECT id FROM clusters;
CREATE TABLE release_revisions (
  cluster_id text NOT NULL
    CONSTRAINT fk_release_revisions_cluster_id_observations REFERENCES observations ON DELETE CASCADE,
  namespace text COLLATE "C" NOT NULL,
  secret text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  revision bigint NOT NULL,
  epoch integer NOT NULL,
  resource_version bigint NOT NULL,
  gone_at timestamptz,
  problem text NOT NULL DEFAULT '',
  uid text NOT NULL,
  status text NOT NULL,
  description text NOT NULL,
  chart_name text NOT NULL,
  chart_version text NOT NULL,
  first_deployed timestamptz,
  last_deployed timestamptz,
  values_sealed bytea,
  values_size integer NOT NULL DEFAULT 0,
  origin_chart_id text NOT NULL DEFAULT '',
  origin_description text NOT NULL DEFAULT '',
  CONSTRAINT pk_release_revisions PRIMARY KEY (cluster_id, namespace, secret)
);
-- Sealed bytes do not compress: PostgreSQL need not try, and can tell their size without reading them.
ALTER TABLE release_revisions ALTER COLUMN values_sealed SET STORAGE EXTERNAL;
CREATE INDEX ix_release_revisions_shown ON release_revisions (cluster_id, namespace, name, revision)
  WHERE gone_at IS NULL AND problem = '';
CREATE INDEX ix_release_revisions_problem ON release_revisions (cluster_id) WHERE gone_at IS NULL AND problem <> '';
CREATE INDEX ix_operations_failed ON operations (cluster_id, namespace, release_name)
  WHERE state = 'failed' AND NOT wrote_release AND dismissed_at IS NULL
""")

"""Drift of releases: the rules about what is none, and what the last look found."""

from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.execute("""
CREATE TABLE drift_rules (
  cluster_id text NOT NULL CONSTRAINT fk_drift_rules_cluster_id_clusters REFERENCES clusters (id) ON DELETE CASCADE,
  namespace text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  rules jsonb NOT NULL,
  CONSTRAINT pk_drift_rules PRIMARY KEY (cluster_id, namespace, name),
  CONSTRAINT ck_drift_rules_rules CHECK (jsonb_typeof(rules) = 'array')
);
CREATE TABLE drift_looks (
  cluster_id text NOT NULL CONSTRAINT fk_drift_looks_cluster_id_cluster_watches
    REFERENCES cluster_watches (cluster_id) ON DELETE CASCADE,
  namespace text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  revision bigint NOT NULL,
  looked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
  added integer NOT NULL,
  changed integer NOT NULL,
  removed integer NOT NULL,
  unknown integer NOT NULL,
  problem text DEFAULT '' NOT NULL,
  drifted boolean GENERATED ALWAYS AS (added + changed + removed > 0) STORED,
  CONSTRAINT pk_drift_looks PRIMARY KEY (cluster_id, namespace, name)
);
""")

"""First tables."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE audit (
  id bigserial CONSTRAINT pk_audit PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  project_id text NOT NULL,
  user_id text NOT NULL,
  action text NOT NULL,
  target text NOT NULL,
  request_id text NOT NULL,
  operation_id text NOT NULL DEFAULT ''
);
CREATE TABLE chart_archives (
  digest text CONSTRAINT pk_chart_archives PRIMARY KEY,
  content bytea NOT NULL,
  size bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE domains (
  id text CONSTRAINT pk_domains PRIMARY KEY,
  name text NOT NULL CONSTRAINT uq_domains_name UNIQUE,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE projects (
  id text CONSTRAINT pk_projects PRIMARY KEY,
  domain_id text NOT NULL CONSTRAINT fk_projects_domain_id_domains REFERENCES domains,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  enabled boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT uq_projects_domain_id_name UNIQUE (domain_id, name)
);
CREATE TABLE users (
  id text CONSTRAINT pk_users PRIMARY KEY,
  domain_id text NOT NULL CONSTRAINT fk_users_domain_id_domains REFERENCES domains,
  name text NOT NULL,
  password_hash text NOT NULL,
  enabled boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT uq_users_domain_id_name UNIQUE (domain_id, name)
);
CREATE TABLE access_keys (
  id text CONSTRAINT pk_access_keys PRIMARY KEY,
  user_id text NOT NULL CONSTRAINT fk_access_keys_user_id_users REFERENCES users,
  project_id text NOT NULL CONSTRAINT fk_access_keys_project_id_projects REFERENCES projects,
  secret_sealed bytea NOT NULL,
  enabled boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE charts (
  id text CONSTRAINT pk_charts PRIMARY KEY,
  project_id text NOT NULL CONSTRAINT fk_charts_project_id_projects REFERENCES projects,
  name text NOT NULL,
  version text NOT NULL,
  digest text NOT NULL CONSTRAINT fk_charts_digest_chart_archives REFERENCES chart_archives,
  description text NOT NULL,
  icon_url text NOT NULL,
  instruction text NOT NULL,
  values_json text NOT NULL,
  source text NOT NULL DEFAULT '',
  visible boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT uq_charts_project_id_name_version UNIQUE (project_id, name, version)
);
CREATE TABLE clusters (
  id text CONSTRAINT pk_clusters PRIMARY KEY,
  project_id text NOT NULL CONSTRAINT fk_clusters_project_id_projects REFERENCES projects,
  name text NOT NULL,
  server text NOT NULL,
  kubeconfig_sealed bytea NOT NULL,
  wait text NOT NULL DEFAULT 'hooks',
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT uq_clusters_project_id_name UNIQUE (project_id, name)
);
CREATE TABLE operations (
  id text CONSTRAINT pk_operations PRIMARY KEY,
  project_id text NOT NULL CONSTRAINT fk_operations_project_id_projects REFERENCES projects,
  user_id text NOT NULL CONSTRAINT fk_operations_user_id_users REFERENCES users,
  cluster_id text NOT NULL,
  namespace text NOT NULL,
  release_name text NOT NULL,
  action text NOT NULL,
  state text NOT NULL,
  chart_digest text NOT NULL CONSTRAINT fk_operations_chart_digest_chart_archives REFERENCES chart_archives,
  chart_id text NOT NULL,
  chart_name text NOT NULL,
  chart_version text NOT NULL,
  request_sealed bytea NOT NULL,
  revision integer,
  description text NOT NULL DEFAULT '',
  status_description text NOT NULL DEFAULT '',
  wrote_release boolean NOT NULL DEFAULT false,
  dismissed_at timestamptz,
  attempt integer NOT NULL DEFAULT 0,
  crashes integer NOT NULL DEFAULT 0,
  last_error text NOT NULL DEFAULT '',
  worker text NOT NULL DEFAULT '',
  lease_until timestamptz,
  not_before timestamptz,
  deadline_seconds integer NOT NULL,
  request_id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at timestamptz,
  finished_at timestamptz
);
CREATE INDEX ix_operations_leases ON operations (lease_until) WHERE state IN ('running', 'cancelling');
CREATE INDEX ix_operations_queue ON operations (created_at) WHERE state = 'queued';
CREATE INDEX ix_operations_release ON operations (cluster_id, namespace, release_name);
CREATE UNIQUE INDEX uq_operations_one_writer ON operations (cluster_id, namespace, release_name)
  WHERE state IN ('queued', 'running', 'cancelling')
""")

"""Users of identity providers, and the roles of their groups."""

from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    op.execute("""
ALTER TABLE users ADD COLUMN issuer text NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN subject text NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN groups text[] NOT NULL DEFAULT '{}';
ALTER TABLE users ADD COLUMN groups_stated_at timestamptz;
ALTER TABLE users ADD COLUMN groups_until timestamptz;
CREATE UNIQUE INDEX uq_users_subject ON users (domain_id, issuer, subject) WHERE issuer <> '';
CREATE TABLE groups (
  id text CONSTRAINT pk_groups PRIMARY KEY,
  domain_id text NOT NULL CONSTRAINT fk_groups_domain_id_domains REFERENCES domains (id),
  issuer text NOT NULL,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT uq_groups_domain_id_issuer_name UNIQUE (domain_id, issuer, name)
);
CREATE TABLE group_roles (
  id bigserial CONSTRAINT pk_group_roles PRIMARY KEY,
  group_id text NOT NULL CONSTRAINT fk_group_roles_group_id_groups REFERENCES groups (id) ON DELETE CASCADE,
  project_id text CONSTRAINT fk_group_roles_project_id_projects REFERENCES projects (id) ON DELETE CASCADE,
  role text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX uq_group_roles_project ON group_roles (group_id, project_id, role) WHERE project_id IS NOT NULL;
CREATE UNIQUE INDEX uq_group_roles_account ON group_roles (group_id, role) WHERE project_id IS NULL;
""")

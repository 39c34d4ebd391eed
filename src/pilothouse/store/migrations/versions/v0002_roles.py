"""Roles: until now every user could do everything, and whoever exists keeps that."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("""
CREATE TABLE role_assignments (
  id bigserial CONSTRAINT pk_role_assignments PRIMARY KEY,
  user_id text NOT NULL CONSTRAINT fk_role_assignments_user_id_users REFERENCES users ON DELETE CASCADE,
  project_id text CONSTRAINT fk_role_assignments_project_id_projects REFERENCES projects ON DELETE CASCADE,
  role text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX uq_role_assignments_project ON role_assignments (user_id, project_id, role)
  WHERE project_id IS NOT NULL;
CREATE UNIQUE INDEX uq_role_assignments_account ON role_assignments (user_id, role) WHERE project_id IS NULL;
INSERT INTO role_assignments (user_id, role) SELECT id, 'te_admin' FROM users
""")

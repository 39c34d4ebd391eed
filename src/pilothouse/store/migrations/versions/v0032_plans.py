"""Plans of changes, and which operation applies one."""

from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations ADD COLUMN plan_id text;
CREATE UNIQUE INDEX uq_operations_plan ON operations (plan_id) WHERE plan_id IS NOT NULL;
CREATE TABLE plans (
  id text NOT NULL CONSTRAINT pk_plans PRIMARY KEY,
  project_id text NOT NULL CONSTRAINT fk_plans_project_id_projects REFERENCES projects (id),
  user_id text NOT NULL,
  cluster_id text NOT NULL,
  action text NOT NULL,
  digest text NOT NULL,
  plan_sealed bytea NOT NULL,
  plan_bytes bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX ix_plans_of_project ON plans (project_id, expires_at);
CREATE INDEX ix_plans_expired ON plans (expires_at);
""")

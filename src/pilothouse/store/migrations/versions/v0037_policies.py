"""Policies in the vendor's form, attached to users and groups."""

from alembic import op

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    op.execute("""
CREATE TABLE policies (
  id text CONSTRAINT pk_policies PRIMARY KEY,
  domain_id text NOT NULL CONSTRAINT fk_policies_domain_id_domains REFERENCES domains (id),
  name text NOT NULL,
  document text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT uq_policies_domain_id_name UNIQUE (domain_id, name)
);
CREATE TABLE policy_attachments (
  id bigserial CONSTRAINT pk_policy_attachments PRIMARY KEY,
  policy_id text NOT NULL
    CONSTRAINT fk_policy_attachments_policy_id_policies REFERENCES policies (id) ON DELETE CASCADE,
  user_id text CONSTRAINT fk_policy_attachments_user_id_users REFERENCES users (id) ON DELETE CASCADE,
  group_id text CONSTRAINT fk_policy_attachments_group_id_groups REFERENCES groups (id) ON DELETE CASCADE,
  project_id text CONSTRAINT fk_policy_attachments_project_id_projects REFERENCES projects (id) ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX uq_policy_attachments_one ON policy_attachments
  (policy_id, coalesce(user_id, ''), coalesce(group_id, ''), coalesce(project_id, ''));
CREATE INDEX ix_policy_attachments_user_id ON policy_attachments (user_id);
CREATE INDEX ix_policy_attachments_group_id ON policy_attachments (group_id);
""")

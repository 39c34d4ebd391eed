"""Tokens, and the counts of wrong passwords and signatures; the record of an operation outlives its user."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
ALTER TABLE users ADD COLUMN failures integer NOT NULL DEFAULT 0, ADD COLUMN locked_until timestamptz;
ALTER TABLE access_keys ADD COLUMN failures integer NOT NULL DEFAULT 0, ADD COLUMN locked_until timestamptz;
ALTER TABLE users ADD COLUMN generation integer NOT NULL DEFAULT 0;
CREATE TABLE tokens (
  digest text CONSTRAINT pk_tokens PRIMARY KEY,
  user_id text NOT NULL CONSTRAINT fk_tokens_user_id_users REFERENCES users ON DELETE CASCADE,
  generation integer NOT NULL,
  scope text NOT NULL,
  project_id text CONSTRAINT fk_tokens_project_id_projects REFERENCES projects ON DELETE CASCADE,
  issued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX ix_tokens_expires_at ON tokens (expires_at);
CREATE INDEX ix_tokens_project_id ON tokens (project_id);
CREATE INDEX ix_tokens_user_id ON tokens (user_id);
CREATE INDEX ix_access_keys_user_id ON access_keys (user_id);
ALTER TABLE operations DROP CONSTRAINT fk_operations_user_id_users
""")

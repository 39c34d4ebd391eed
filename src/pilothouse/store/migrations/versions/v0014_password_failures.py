"""Wrong passwords are counted by user and address: strangers must not lock a user out everywhere."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("""
CREATE TABLE password_failures (
  user_id text NOT NULL CONSTRAINT fk_password_failures_user_id_users REFERENCES users ON DELETE CASCADE,
  address text NOT NULL,
  failures integer NOT NULL DEFAULT 0,
  locked_until timestamptz,
  failed_at timestamptz NOT NULL,
  CONSTRAINT pk_password_failures PRIMARY KEY (user_id, address)
);
CREATE INDEX ix_password_failures_failed_at ON password_failures (failed_at);
ALTER TABLE users DROP COLUMN failures, DROP COLUMN locked_until
""")

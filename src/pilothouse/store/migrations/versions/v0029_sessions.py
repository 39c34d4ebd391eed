"""Sessions of the console: an opaque cookie, of which only the hash is stored."""

from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.execute("""
CREATE TABLE sessions (
  digest text CONSTRAINT pk_sessions PRIMARY KEY,
  id text NOT NULL CONSTRAINT uq_sessions_id UNIQUE,
  user_id text NOT NULL CONSTRAINT fk_sessions_user_id_users REFERENCES users (id) ON DELETE CASCADE,
  generation integer NOT NULL,
  token_digest text CONSTRAINT fk_sessions_token_digest_tokens REFERENCES tokens (digest) ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  proven_at timestamptz NOT NULL,
  used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  source text NOT NULL,
  agent text NOT NULL
);
CREATE INDEX ix_sessions_user_id ON sessions (user_id);
CREATE INDEX ix_sessions_token_digest ON sessions (token_digest);
CREATE INDEX ix_sessions_expires_at ON sessions (expires_at);
""")

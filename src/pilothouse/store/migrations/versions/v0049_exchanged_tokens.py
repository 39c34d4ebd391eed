"""ID tokens that were exchanged for one of ours: each counts once."""

from alembic import op

revision = "0049"
down_revision = "0048"


def upgrade() -> None:
    op.execute("""
CREATE TABLE exchanged_tokens (
  digest text NOT NULL,
  until timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
  CONSTRAINT pk_exchanged_tokens PRIMARY KEY (digest)
)
""")

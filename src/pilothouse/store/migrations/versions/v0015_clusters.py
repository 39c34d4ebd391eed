"""Where the index of a cluster ends, and which cluster it is."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.execute("""
ALTER TABLE observations ADD COLUMN truncated boolean NOT NULL DEFAULT false;
ALTER TABLE clusters ADD COLUMN identity text NOT NULL DEFAULT ''
""")

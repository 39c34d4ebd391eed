"""Which trace an operation belongs to."""

from alembic import op

revision = "0044"
down_revision = "0043"


def upgrade() -> None:
    op.execute("ALTER TABLE operations ADD COLUMN trace_parent text NOT NULL DEFAULT ''")

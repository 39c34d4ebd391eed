"""What an event tells programs."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("ALTER TABLE operation_events ADD COLUMN data jsonb")

"""When the last attempt took an operation: what may bring the worker down is kept apart for a while."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("ALTER TABLE operations ADD COLUMN taken_at timestamptz")

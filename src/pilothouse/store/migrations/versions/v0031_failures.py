"""Remember why an operation failed while what it did is undone."""

from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations ADD COLUMN failure text NOT NULL DEFAULT ''
""")

"""What an undo needs to know: where it leads, which revision it writes, and whether an install is kept."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations
  ADD COLUMN cancel_keeps boolean NOT NULL DEFAULT false,
  ADD COLUMN restore_revision integer,
  ADD COLUMN undo_revision integer
""")

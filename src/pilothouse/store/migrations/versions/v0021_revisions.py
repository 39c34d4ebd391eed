"""A revision has 64 bits, as it has for Helm and in the index."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations
  ALTER COLUMN revision TYPE bigint,
  ALTER COLUMN base_revision TYPE bigint,
  ALTER COLUMN restore_revision TYPE bigint,
  ALTER COLUMN undo_revision TYPE bigint
""")

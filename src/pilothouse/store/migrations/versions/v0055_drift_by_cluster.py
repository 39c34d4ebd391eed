"""Each cluster can say how often its releases are looked at for drift, and whether at all."""

from alembic import op

revision = "0055"
down_revision = "0054"


def upgrade() -> None:
    op.execute("""
ALTER TABLE clusters ADD COLUMN drift_seconds integer;
""")

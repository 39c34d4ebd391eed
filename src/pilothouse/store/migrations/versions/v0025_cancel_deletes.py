"""Whether a DELETE cancels an install: what it was to replace goes then, too."""

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.execute("ALTER TABLE operations ADD COLUMN cancel_deletes boolean NOT NULL DEFAULT false")

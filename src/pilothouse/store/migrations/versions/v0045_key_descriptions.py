"""What an access key is for, as its user says."""

from alembic import op

revision = "0045"
down_revision = "0044"


def upgrade() -> None:
    op.execute("ALTER TABLE access_keys ADD COLUMN description text NOT NULL DEFAULT ''")

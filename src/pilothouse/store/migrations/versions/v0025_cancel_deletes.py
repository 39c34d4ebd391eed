"""Whether a DELETE cancels an install: what it was to replace goes then, too."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "operations",
        sa.Column(
            "cancel_deletes",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="by a DELETE: what the install was to replace goes, too",
        ),
    )

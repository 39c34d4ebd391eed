"""What an undo needs to know: where it leads, which revision it writes, and whether an install is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "operations",
        sa.Column(
            "cancel_keeps",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="what was installed stays",
        ),
    )
    op.add_column(
        "operations",
        sa.Column(
            "restore_revision",
            sa.Integer(),
            comment="the last deployed revision before it wrote: where an undo leads",
        ),
    )
    op.add_column(
        "operations",
        sa.Column(
            "undo_revision",
            sa.Integer(),
            comment="the revision that its undo writes, once known; base_* are the undo's then",
        ),
    )

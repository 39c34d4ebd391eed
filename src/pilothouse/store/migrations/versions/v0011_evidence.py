"""What was found in the cluster when an operation failed."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "operation_evidence",
        sa.Column("operation_id", sa.Text(), sa.ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("attempt", sa.Integer(), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("found", sa.Text(), nullable=False, comment="JSON without secrets, see worker/evidence.py"),
    )

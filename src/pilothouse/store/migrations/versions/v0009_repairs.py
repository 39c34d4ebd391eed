"""The second look at a release whose operation was taken over or cancelled."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "repairs",
        sa.Column("operation_id", sa.Text(), sa.ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("cluster_id", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("release_name", sa.Text(), nullable=False),
        sa.Column(
            "objects",
            sa.Text(),
            server_default="[]",
            nullable=False,
            comment="JSON: apiVersion, kind, namespace and name of what an uninstalled revision had",
        ),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, comment="none until the operation has ended"),
        sa.Column(
            "lease_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="until then a worker is at it, and writers wait",
        ),
    )

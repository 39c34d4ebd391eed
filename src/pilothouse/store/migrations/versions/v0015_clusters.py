"""Where the index of a cluster ends, and which cluster it is."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "observations",
        sa.Column(
            "truncated",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="the cluster has more release Secrets than the index takes",
        ),
    )
    op.add_column(
        "clusters",
        sa.Column(
            "identity",
            sa.Text(),
            nullable=False,
            server_default="",
            comment="uid of its namespace kube-system, which no other cluster has; empty if it may not be read",
        ),
    )

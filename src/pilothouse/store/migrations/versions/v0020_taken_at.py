"""When the last attempt took an operation: what may bring the worker down is kept apart for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "operations",
        sa.Column(
            "taken_at", sa.DateTime(timezone=True), nullable=True, comment="when the last attempt began to hold it"
        ),
    )

"""What an event tells programs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "operation_events",
        sa.Column("data", JSONB(), comment="the same for programs, where there is more than a text can tell"),
    )

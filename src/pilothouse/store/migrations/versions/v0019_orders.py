"""The order of an operation is dropped when it has ended, but for what is shown of it to somebody."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column(
        "operations",
        "request_sealed",
        existing_type=sa.LargeBinary(),
        nullable=True,
        existing_comment="values, description and flags, see services",
        comment="values and flags; none after the end, see services",
    )
    op.add_column(
        "operations",
        sa.Column(
            "shown_sealed",
            sa.LargeBinary(),
            nullable=True,
            comment="what is shown of the order; none when nobody is left to show it to",
        ),
    )
    op.add_column(
        "operations",
        sa.Column(
            "answers_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="the end of the last Idempotency-Key that stands for it",
        ),
    )
    # The workers drop the orders of rows that have ended already, a few at a time: here it would be all at once. How
    # long keys live is a setting; a day is its default.
    op.execute(
        "UPDATE operations SET answers_until = clock_timestamp() + interval '1 day'"
        " WHERE id IN (SELECT operation_id FROM idempotency_keys)"
    )
    op.create_index(
        "ix_operations_orders",
        "operations",
        ["finished_at"],
        postgresql_where=sa.text(
            "finished_at IS NOT NULL AND (request_sealed IS NOT NULL OR shown_sealed IS NOT NULL)"
        ),
    )

"""The index knows how large the values of a revision are when they are read."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "release_revisions",
        sa.Column(
            "values_text_size",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="bytes of the values as JSON text; if not 0 and they are NULL, they are too large to be kept",
        ),
    )
    # Until they are read again, the worst is supposed of what is packed: a thousand times its size, and at most 4 MiB.
    op.execute(
        "UPDATE release_revisions SET values_text_size = "
        "CASE WHEN values_size < 300 THEN values_size ELSE least(values_size, 4194) * 1000 END "
        "WHERE values_sealed IS NOT NULL"
    )
    op.alter_column(
        "operation_evidence",
        "found",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment="JSON without secrets, see worker/diagnostics/evidence.py",
    )
    op.execute("UPDATE observations SET epoch = epoch + 1, resource_version = 0")

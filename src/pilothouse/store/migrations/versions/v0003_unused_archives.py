"""An operation pins its chart's archive only while it lives, and archives that nothing uses can be collected."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What is read in pieces must not be compressed: PostgreSQL would inflate all of it for each piece.
    op.execute("ALTER TABLE chart_archives ALTER COLUMN content SET STORAGE EXTERNAL")
    op.add_column(
        "chart_archives",
        sa.Column(
            "unused_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when no chart and no living operation was found to use it; it is deleted a while later",
        ),
    )
    op.drop_constraint("fk_operations_chart_digest_chart_archives", "operations", type_="foreignkey")
    op.add_column(
        "operations",
        sa.Column(
            "pinned_digest",
            sa.Text(),
            sa.Computed("CASE WHEN state IN ('queued', 'running', 'cancelling') THEN chart_digest END", persisted=True),
            nullable=True,
            comment="chart_digest while the operation lives, then NULL: what keeps the archive",
        ),
    )
    op.create_foreign_key(
        "fk_operations_pinned_digest_chart_archives",
        "operations",
        "chart_archives",
        ["pinned_digest"],
        ["digest"],
    )
    op.create_index(
        "ix_operations_pinned_digest",
        "operations",
        ["pinned_digest"],
        postgresql_where=sa.text("pinned_digest IS NOT NULL"),
    )
    op.create_index("ix_charts_digest", "charts", ["digest"])

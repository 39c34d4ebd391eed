"""Upgrades, rollbacks and uninstalls: what an attempt saw before it acted, and what happened on the way."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column(
        "operations",
        "action",
        existing_type=sa.Text(),
        comment="install, upgrade, rollback, uninstall",
        existing_comment="install",
        existing_nullable=False,
    )
    op.alter_column(
        "operations",
        "chart_digest",
        existing_type=sa.Text(),
        nullable=True,
        comment="pinned at accept; none for actions without a chart",
        existing_comment="pinned at accept",
    )
    op.add_column(
        "operations",
        sa.Column(
            "include_hooks",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="as the request said it",
        ),
    )
    op.add_column(
        "operations",
        sa.Column(
            "begun_attempt",
            sa.Integer(),
            nullable=True,
            comment="the last attempt that may have written to the cluster",
        ),
    )
    op.add_column(
        "operations",
        sa.Column(
            "base_revision",
            sa.Integer(),
            nullable=True,
            comment="the newest revision when the attempt began to act; none: no release",
        ),
    )
    op.add_column(
        "operations",
        sa.Column("base_uid", sa.Text(), server_default="", nullable=False, comment="uid of the base's Secret"),
    )
    op.add_column(
        "operations",
        sa.Column(
            "base_version", sa.Text(), server_default="", nullable=False, comment="resourceVersion of the base's Secret"
        ),
    )
    op.add_column(
        "operations",
        sa.Column(
            "lapsed_attempt",
            sa.Integer(),
            nullable=True,
            comment="the last attempt counted as a crash because its lease lapsed",
        ),
    )
    op.add_column(
        "operations",
        sa.Column("cancelling_at", sa.DateTime(timezone=True), nullable=True, comment="when its cancel was asked for"),
    )
    op.drop_index("ix_operations_queue", table_name="operations")
    op.create_index(
        "ix_operations_queue",
        "operations",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'cancelling') AND lease_until IS NULL"),
    )
    op.create_table(
        "operation_events",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("operation_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="a snake_case verb phrase"),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["operation_id"],
            ["operations.id"],
            name=op.f("fk_operation_events_operation_id_operations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operation_events")),
    )
    op.create_index("ix_operation_events_operation_id", "operation_events", ["operation_id"])
    # what an older worker began is read by the proof that it had: number and label
    op.execute("UPDATE operations SET begun_attempt = attempt WHERE revision IS NOT NULL AND attempt > 0")

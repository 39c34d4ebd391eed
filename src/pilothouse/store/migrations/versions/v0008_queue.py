"""A fair queue with limits, keys that make a repeated request harmless, and what retention walks."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_WAITING = "state IN ('queued', 'cancelling') AND lease_until IS NULL"


def upgrade() -> None:
    op.add_column(
        "operations",
        sa.Column(
            "turn",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="place in the queue: each project's next operation before any project's one after that",
        ),
    )
    op.drop_index("ix_operations_queue", table_name="operations")
    op.create_index("ix_operations_queue", "operations", ["turn", "created_at"], postgresql_where=sa.text(_WAITING))
    op.create_index(
        "ix_operations_queue_of_project", "operations", ["project_id", "turn"], postgresql_where=sa.text(_WAITING)
    )
    op.create_index("ix_operations_queue_of_cluster", "operations", ["cluster_id"], postgresql_where=sa.text(_WAITING))
    op.create_index(
        "ix_operations_finished",
        "operations",
        ["finished_at", "id"],
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False, comment="no foreign key: as in operations"),
        sa.Column("key", sa.Text(), nullable=False, comment="as the header Idempotency-Key had it"),
        sa.Column("operation_id", sa.Text(), nullable=False),
        sa.Column(
            "record_sealed", sa.LargeBinary(), nullable=False, comment="which request it was and what it answered"
        ),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["operation_id"],
            ["operations.id"],
            name=op.f("fk_idempotency_keys_operation_id_operations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_idempotency_keys_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_index("ix_idempotency_keys_operation_id", "idempotency_keys", ["operation_id"])

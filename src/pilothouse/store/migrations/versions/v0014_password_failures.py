"""Wrong passwords are counted by user and address: strangers must not lock a user out everywhere."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "password_failures",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column(
            "address", sa.Text(), nullable=False, comment="where the guesses came from: IPv4, or the /64 of IPv6"
        ),
        sa.Column(
            "failures",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="proofs that failed since the last one that did not",
        ),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_password_failures_user_id_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "address", name="pk_password_failures"),
    )
    op.create_index("ix_password_failures_failed_at", "password_failures", ["failed_at"])
    op.drop_column("users", "failures")
    op.drop_column("users", "locked_until")

"""Tokens, and the counts of wrong passwords and signatures; the record of an operation outlives its user."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("users", "access_keys"):
        op.add_column(
            table,
            sa.Column(
                "failures",
                sa.Integer(),
                server_default="0",
                nullable=False,
                comment="proofs that failed since the last one that did not",
            ),
        )
        op.add_column(table, sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "users",
        sa.Column(
            "generation",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="raised when password, keys, roles or state change; older tokens are dead",
        ),
    )
    op.create_table(
        "tokens",
        sa.Column("digest", sa.Text(), nullable=False, comment="lower-case hex SHA-256 of the token"),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False, comment="of the user when its password was checked"),
        sa.Column("scope", sa.Text(), nullable=False, comment="project, domain or none"),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("issued_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_tokens_project_id_projects"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_expires_at"), "tokens", ["expires_at"])
    op.create_index(op.f("ix_tokens_project_id"), "tokens", ["project_id"])
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"])
    op.create_index(op.f("ix_access_keys_user_id"), "access_keys", ["user_id"])
    op.drop_constraint("fk_operations_user_id_users", "operations", type_="foreignkey")
    op.alter_column("operations", "user_id", comment="no foreign key: the record outlives the user")

"""Roles: until now every user could do everything, and whoever exists keeps that."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "role_assignments",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True, comment="NULL: the account and every project of it"),
        sa.Column("role", sa.Text(), nullable=False, comment="a name in auth.policy.ROLES"),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_role_assignments_project_id_projects"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_role_assignments_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_assignments")),
    )
    op.create_index(
        "uq_role_assignments_project",
        "role_assignments",
        ["user_id", "project_id", "role"],
        unique=True,
        postgresql_where=sa.text("project_id IS NOT NULL"),
    )
    op.create_index(
        "uq_role_assignments_account",
        "role_assignments",
        ["user_id", "role"],
        unique=True,
        postgresql_where=sa.text("project_id IS NULL"),
    )
    op.execute("INSERT INTO role_assignments (user_id, role) SELECT id, 'te_admin' FROM users")

"""Operations are listed by project, newest first."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_operations_of_project", "operations", ["project_id", "created_at", "id"])

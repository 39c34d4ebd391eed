"""Operations are listed by project, newest first."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("CREATE INDEX ix_operations_of_project ON operations (project_id, created_at, id)")

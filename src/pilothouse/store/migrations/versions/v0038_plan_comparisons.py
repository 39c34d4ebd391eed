"""What a plan was compared with, in a column of its own: an apply does not read it."""

from alembic import op

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    op.execute("""
ALTER TABLE plans ADD COLUMN comparison_sealed bytea;
ALTER TABLE plans ALTER COLUMN plan_sealed SET STORAGE EXTERNAL, ALTER COLUMN comparison_sealed SET STORAGE EXTERNAL;
""")

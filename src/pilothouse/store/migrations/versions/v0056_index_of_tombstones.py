"""Find the tombstones that are old enough to go without reading the whole index of releases."""

from alembic import op

revision = "0056"
down_revision = "0055"


def upgrade() -> None:
    op.execute("""
CREATE INDEX ix_release_revisions_gone ON release_revisions (gone_at) WHERE gone_at IS NOT NULL;
""")

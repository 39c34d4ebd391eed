"""The index knows how large the values of a revision are when they are read."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.execute("""
ALTER TABLE release_revisions ADD COLUMN values_text_size integer NOT NULL DEFAULT 0;
-- Until they are read again, the worst is supposed of what is packed: a thousand times its size, and at most 4 MiB.
UPDATE release_revisions
  SET values_text_size = CASE WHEN values_size < 300 THEN values_size ELSE least(values_size, 4194) * 1000 END
  WHERE values_sealed IS NOT NULL;
UPDATE observations SET epoch = epoch + 1, resource_version = 0
""")

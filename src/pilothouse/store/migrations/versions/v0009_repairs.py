"""The second look at a release whose operation was taken over or cancelled."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("""
CREATE TABLE repairs (
  operation_id text CONSTRAINT pk_repairs PRIMARY KEY
    CONSTRAINT fk_repairs_operation_id_operations REFERENCES operations ON DELETE CASCADE,
  cluster_id text NOT NULL,
  namespace text NOT NULL,
  release_name text NOT NULL,
  objects text NOT NULL DEFAULT '[]',
  due_at timestamptz,
  lease_until timestamptz
)
""")

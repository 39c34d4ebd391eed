"""What was found in the cluster when an operation failed."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("""
CREATE TABLE operation_evidence (
  operation_id text NOT NULL
    CONSTRAINT fk_operation_evidence_operation_id_operations REFERENCES operations ON DELETE CASCADE,
  attempt integer NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  found text NOT NULL,
  CONSTRAINT pk_operation_evidence PRIMARY KEY (operation_id, attempt)
)
""")

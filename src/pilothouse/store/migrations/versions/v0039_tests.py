"""Let operations run the tests of a release."""

from alembic import op

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations
  DROP CONSTRAINT ck_operations_action,
  ADD CONSTRAINT ck_operations_action CHECK (action IN ('install', 'upgrade', 'rollback', 'uninstall', 'test'));
COMMENT ON COLUMN operations.action IS 'install, upgrade, rollback, uninstall, test';
-- an older worker would take an operation that it cannot carry out
UPDATE schema_compatibility SET oldest_program = '0039'
""")

"""Let columns with a fixed set of words hold no others, so that no reader meets one."""

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.execute("""
ALTER TABLE clusters ADD CONSTRAINT ck_clusters_wait CHECK (wait IN ('none', 'hooks', 'ready'));
ALTER TABLE tokens ADD CONSTRAINT ck_tokens_scope CHECK (scope IN ('project', 'domain', 'none'));
ALTER TABLE operations
  ADD CONSTRAINT ck_operations_action CHECK (action IN ('install', 'upgrade', 'rollback', 'uninstall')),
  ADD CONSTRAINT ck_operations_state
    CHECK (state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled'));
ALTER TABLE operation_events ADD CONSTRAINT ck_operation_events_data CHECK (jsonb_typeof(data) = 'object');
ALTER TABLE audit ADD CONSTRAINT ck_audit_outcome CHECK (outcome IN ('done', 'denied', 'failed'))
""")

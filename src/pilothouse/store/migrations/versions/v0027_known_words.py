"""Let columns with a fixed set of words hold no others, so that no reader meets one."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_CHECKS = [
    ("clusters", "wait", "wait IN ('none', 'hooks', 'ready')"),
    ("tokens", "scope", "scope IN ('project', 'domain', 'none')"),
    ("operations", "action", "action IN ('install', 'upgrade', 'rollback', 'uninstall')"),
    ("operations", "state", "state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')"),
    ("operation_events", "data", "jsonb_typeof(data) = 'object'"),
    ("audit", "outcome", "outcome IN ('done', 'denied', 'failed')"),
]


def upgrade() -> None:
    for table, column, condition in _CHECKS:
        op.create_check_constraint(column, table, condition)

"""Running operations are counted by API server, and a take looks at the queues of those that may run."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "operations",
        sa.Column(
            "api_server",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="host, port and path of the cluster's API server: the same for all registrations of it",
        ),
    )
    # Only what still waits or runs is counted.
    op.execute(
        "UPDATE operations SET api_server = clusters.server FROM clusters"
        " WHERE clusters.id = operations.cluster_id AND state IN ('queued', 'running', 'cancelling')"
    )
    op.create_index(
        "ix_operations_queue_of_server",
        "operations",
        ["project_id", "api_server", "turn", "created_at"],
        postgresql_where=sa.text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND attempt >= 0"),
    )

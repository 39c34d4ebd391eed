"""Lists of releases over all clusters: what they show and filter by, and an index of the newest revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, comment in (
        ("app_version", "the chart's appVersion"),
        ("manager", "the program besides Helm that its marks name, and its object; empty for none"),
        ("origin_operation_id", "the operation that wrote it, if it installed or upgraded"),
    ):
        op.add_column(
            "release_revisions", sa.Column(name, sa.Text(), server_default="", nullable=False, comment=comment)
        )
    op.add_column(
        "release_revisions",
        sa.Column(
            "exposed",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="may be the newest although superseded: what came after it was deleted",
        ),
    )
    op.execute("""
UPDATE release_revisions top SET exposed = true
WHERE top.gone_at IS NULL AND top.problem = '' AND top.status = 'superseded' AND NOT EXISTS (
  SELECT FROM release_revisions higher
  WHERE higher.cluster_id = top.cluster_id AND higher.namespace = top.namespace AND higher.name = top.name
    AND higher.revision > top.revision AND higher.gone_at IS NULL AND higher.problem = ''
)""")
    op.create_index(
        "ix_release_revisions_newest",
        "release_revisions",
        ["cluster_id", "namespace", "name", sa.text("revision DESC")],
        postgresql_where=sa.text("gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed)"),
    )
    op.execute("UPDATE cluster_watches SET epoch = epoch + 1, resource_version = 0")

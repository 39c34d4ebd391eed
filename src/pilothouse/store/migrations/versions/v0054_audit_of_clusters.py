"""Find the clusters of a name in the audit, also those that were removed, without reading all of it."""

from alembic import op

revision = "0054"
down_revision = "0053"


def upgrade() -> None:
    op.execute("""
CREATE INDEX ix_audit_about_clusters ON audit (domain_id, target_name)
  WHERE action IN ('cce:cluster:create', 'cce:cluster:delete');
""")

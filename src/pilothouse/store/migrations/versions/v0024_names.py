"""Columns and a table get the names that the code uses."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_COLUMNS = {
    "turn": "queue_position",
    "begun_attempt": "last_writing_attempt",
    "wrote_release": "wrote_revision",
    "cancel_keeps": "keep_resources",
}
_CONSTRAINTS = {
    ("cluster_watches", "pk_observations"): "pk_cluster_watches",
    ("cluster_watches", "fk_observations_cluster_id_clusters"): "fk_cluster_watches_cluster_id_clusters",
    ("release_revisions", "fk_release_revisions_cluster_id_observations"): (
        "fk_release_revisions_cluster_id_cluster_watches"
    ),
}


def upgrade() -> None:
    for old, new in _COLUMNS.items():
        op.alter_column("operations", old, new_column_name=new)
    op.rename_table("observations", "cluster_watches")
    for (table, old), new in _CONSTRAINTS.items():
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")

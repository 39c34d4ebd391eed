"""Columns and a table get the names that the code uses."""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations RENAME turn TO queue_position;
ALTER TABLE operations RENAME begun_attempt TO last_writing_attempt;
ALTER TABLE operations RENAME wrote_release TO wrote_revision;
ALTER TABLE operations RENAME cancel_keeps TO keep_resources;
ALTER TABLE observations RENAME TO cluster_watches;
ALTER TABLE cluster_watches RENAME CONSTRAINT pk_observations TO pk_cluster_watches;
ALTER TABLE cluster_watches
  RENAME CONSTRAINT fk_observations_cluster_id_clusters TO fk_cluster_watches_cluster_id_clusters;
ALTER TABLE release_revisions
  RENAME CONSTRAINT fk_release_revisions_cluster_id_observations TO fk_release_revisions_cluster_id_cluster_watches
""")

"""Wall a project of a cluster in: its namespaces, and the user and groups that Kubernetes judges it by."""

from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    op.execute("""
ALTER TABLE clusters ADD COLUMN wall_namespaces text[] NOT NULL DEFAULT '{}';
ALTER TABLE clusters ADD COLUMN wall_user text NOT NULL DEFAULT '';
ALTER TABLE clusters ADD COLUMN wall_groups text[] NOT NULL DEFAULT '{}';
-- an older program would act as the registered account behind a wall
UPDATE schema_compatibility SET oldest_program = '0041';
""")

"""Which archives a project brought: their bytes count until they are collected, also when the chart has another now."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "project_archives",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["chart_archives.digest"],
            name=op.f("fk_project_archives_digest_chart_archives"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_project_archives_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "digest", name=op.f("pk_project_archives")),
    )
    op.create_index("ix_project_archives_digest", "project_archives", ["digest"])
    op.execute("INSERT INTO project_archives (project_id, digest) SELECT DISTINCT project_id, digest FROM charts")

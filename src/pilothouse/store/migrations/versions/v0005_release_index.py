"""The release index: what is watched in each cluster, and the revisions found there."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "observers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_observers")),
    )
    op.create_table(
        "observations",
        sa.Column("cluster_id", sa.Text(), nullable=False),
        sa.Column(
            "holder",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="the observer that watches it, see observers",
        ),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "epoch",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="grows when resourceVersions went back",
        ),
        sa.Column(
            "resource_version",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="up to here everything is in the index; 0: a list is due",
        ),
        sa.Column(
            "listed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="the first complete list; before it, reads ask the cluster",
        ),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the cluster last confirmed that nothing is missing",
        ),
        sa.Column("error", sa.Text(), server_default="", nullable=False, comment="why the cluster is not watched now"),
        sa.ForeignKeyConstraint(
            ["cluster_id"], ["clusters.id"], name=op.f("fk_observations_cluster_id_clusters"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("cluster_id", name=op.f("pk_observations")),
    )
    op.execute("INSERT INTO observations (cluster_id) SELECT id FROM clusters")
    op.create_table(
        "release_revisions",
        sa.Column("cluster_id", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(collation="C"), nullable=False),
        sa.Column("secret", sa.Text(collation="C"), nullable=False, comment="name of Helm's Secret"),
        sa.Column(
            "name",
            sa.Text(collation="C"),
            nullable=False,
            comment="of the release; empty if the Secret does not say",
        ),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column(
            "resource_version",
            sa.BigInteger(),
            nullable=False,
            comment="a write applies only if epoch and this are newer",
        ),
        sa.Column(
            "gone_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="a tombstone: late news of the Secret must not revive it",
        ),
        sa.Column(
            "problem",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="why the Secret cannot be read; then not shown",
        ),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False, comment="Helm's own text"),
        sa.Column("chart_name", sa.Text(), nullable=False),
        sa.Column("chart_version", sa.Text(), nullable=False),
        sa.Column("first_deployed", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_deployed", sa.DateTime(timezone=True), nullable=True),
        sa.Column("values_sealed", sa.LargeBinary(), nullable=True),
        sa.Column(
            "values_size", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="bytes of values_sealed"
        ),
        sa.Column(
            "origin_chart_id", sa.Text(), server_default="", nullable=False, comment="of the operation that wrote it"
        ),
        sa.Column(
            "origin_description", sa.Text(), server_default="", nullable=False, comment="the user's own text, likewise"
        ),
        sa.ForeignKeyConstraint(
            ["cluster_id"],
            ["observations.cluster_id"],
            name=op.f("fk_release_revisions_cluster_id_observations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("cluster_id", "namespace", "secret", name=op.f("pk_release_revisions")),
    )
    # Sealed bytes do not compress: PostgreSQL need not try, and can tell their size without reading them.
    op.execute("ALTER TABLE release_revisions ALTER COLUMN values_sealed SET STORAGE EXTERNAL")
    op.create_index(
        "ix_release_revisions_shown",
        "release_revisions",
        ["cluster_id", "namespace", "name", "revision"],
        postgresql_where=sa.text("gone_at IS NULL AND problem = ''"),
    )
    op.create_index(
        "ix_release_revisions_problem",
        "release_revisions",
        ["cluster_id"],
        postgresql_where=sa.text("gone_at IS NULL AND problem <> ''"),
    )
    op.create_index(
        "ix_operations_failed",
        "operations",
        ["cluster_id", "namespace", "release_name"],
        postgresql_where=sa.text("state = 'failed' AND NOT wrote_release AND dismissed_at IS NULL"),
    )

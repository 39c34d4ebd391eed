"""Registered clusters, and who watches them."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import ARRAY

from pilothouse.store.tables.columns import (
    big_count_column,
    count_column,
    flag_column,
    metadata,
    now_column,
    text_column,
    time_column,
)

clusters = Table(
    "clusters",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("server", Text, nullable=False, comment="URL of the API server, from the kubeconfig"),
    Column("kubeconfig_sealed", LargeBinary, nullable=False),
    Column("wait", Text, nullable=False, server_default="hooks", comment="what writes wait for: none, hooks, ready"),
    now_column("created_at"),
    text_column(
        "identity", "uid of its namespace kube-system, which no other cluster has; empty if it may not be read"
    ),
    Column(
        "wall_namespaces", ARRAY(Text), nullable=False, server_default="{}", comment="the project's; empty: no wall"
    ),
    text_column("wall_user", "who the kubeconfig's account impersonates; empty: no wall"),
    Column("wall_groups", ARRAY(Text), nullable=False, server_default="{}", comment="groups of wall_user"),
    Column("drift_seconds", Integer, comment="between periodic looks at drift; 0: none; null: as the settings say"),
    UniqueConstraint("project_id", "name"),
    CheckConstraint("wait IN ('none', 'hooks', 'ready')", "wait"),
)

cluster_watches = Table(
    "cluster_watches",
    metadata,
    Column("cluster_id", Text, ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    text_column("holder", "the observer that watches it, see observers"),
    time_column("lease_until"),
    count_column("epoch", "grows when resourceVersions went back"),
    big_count_column("resource_version", "up to here everything is in the index; 0: a list is due"),
    time_column("listed_at", "the first complete list; before it, reads ask the cluster"),
    time_column("seen_at", "when the cluster last confirmed that nothing is missing"),
    text_column("error", "why the cluster is not watched now"),
    flag_column("truncated", "the cluster has more release Secrets than the index takes"),
)

observers = Table(
    "observers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seen_at", DateTime(timezone=True), nullable=False),
)

"""The index of releases, and what was found of their drift."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from pilothouse.store.tables.columns import count_column, flag_column, metadata, partial_index, text_column, time_column

release_revisions = Table(
    "release_revisions",
    metadata,
    Column("cluster_id", Text, ForeignKey("cluster_watches.cluster_id", ondelete="CASCADE"), primary_key=True),
    Column("namespace", Text(collation="C"), primary_key=True),
    Column("secret", Text(collation="C"), primary_key=True, comment="name of Helm's Secret"),
    Column("name", Text(collation="C"), nullable=False, comment="of the release; empty if the Secret does not say"),
    Column("revision", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("resource_version", BigInteger, nullable=False, comment="a write applies only if epoch and this are newer"),
    time_column("gone_at", "a tombstone: late news of the Secret must not revive it"),
    text_column("problem", "why the Secret cannot be read; then not shown"),
    Column("uid", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("description", Text, nullable=False, comment="Helm's own text"),
    Column("chart_name", Text, nullable=False),
    Column("chart_version", Text, nullable=False),
    time_column("first_deployed"),
    time_column("last_deployed"),
    time_column("deleted_at", "when an uninstall of it began that has kept it"),
    Column("values_sealed", LargeBinary),
    count_column("values_size", "bytes of values_sealed"),
    count_column(
        "values_text_size",
        "bytes of the values as JSON text; if not 0 and they are NULL, they are too large to be kept",
    ),
    text_column("origin_chart_id", "of the operation that wrote it"),
    text_column("origin_description", "the user's own text, likewise"),
    text_column("app_version", "the chart's appVersion"),
    text_column("manager", "the program besides Helm that its marks name, and its object; empty for none"),
    text_column("origin_operation_id", "the operation that wrote it, if it installed or upgraded"),
    flag_column("exposed", "may be the newest although superseded: what came after it was deleted"),
    partial_index(
        "ix_release_revisions_shown",
        "cluster_id",
        "namespace",
        "name",
        "revision",
        where="gone_at IS NULL AND problem = ''",
    ),
    # Each release's newest revision is among these, and hardly another one.
    partial_index(
        "ix_release_revisions_newest",
        "cluster_id",
        "namespace",
        "name",
        text("revision DESC"),
        where="gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed)",
    ),
    partial_index("ix_release_revisions_gone", "gone_at", where="gone_at IS NOT NULL"),
    partial_index("ix_release_revisions_problem", "cluster_id", where="gone_at IS NULL AND problem <> ''"),
)

#: What is no drift of a release, see services/releases/ignore_rules.py.
drift_rules = Table(
    "drift_rules",
    metadata,
    Column("cluster_id", Text, ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    Column("namespace", Text(collation="C"), primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("rules", JSONB, nullable=False),
    CheckConstraint("jsonb_typeof(rules) = 'array'", "rules"),
)

#: What the last look at a release found: how many objects of each change.
drift_looks = Table(
    "drift_looks",
    metadata,
    Column("cluster_id", Text, ForeignKey("cluster_watches.cluster_id", ondelete="CASCADE"), primary_key=True),
    Column("namespace", Text(collation="C"), primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("looked_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("added", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Column("removed", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("problem", Text, nullable=False, server_default="", comment="why it could not look; the rest is older then"),
    Column("drifted", Boolean, Computed("added + changed + removed > 0", persisted=True)),
)

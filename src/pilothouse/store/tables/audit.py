"""Who did what."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text

from pilothouse.store.tables.columns import metadata, now_column, partial_index, text_column

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    now_column("at"),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("action", Text, nullable=False, comment="the vendor's action name, for example cce:release:create"),
    Column("target", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    text_column("operation_id"),
    text_column("domain_id", "whose administrators may see the row"),
    text_column("user_name"),
    text_column("project_name"),
    text_column("target_name"),
    text_column("source", "the address that the request came from"),
    Column("outcome", Text, nullable=False, server_default="done", comment="done, denied (role), failed, or started"),
    text_column("detail"),
    Column("times", Integer, nullable=False, server_default="1", comment="how often, from the time of the row on"),
    CheckConstraint("outcome IN ('done', 'denied', 'failed', 'started')", "outcome"),
    Index("ix_audit_by_time", "domain_id", "at", "id"),
    partial_index("ix_audit_failed", "id", where="outcome = 'failed'"),
    # The names of clusters that are not there any more.
    partial_index(
        "ix_audit_about_clusters",
        "domain_id",
        "target_name",
        where="action IN ('cce:cluster:create', 'cce:cluster:delete')",
    ),
)

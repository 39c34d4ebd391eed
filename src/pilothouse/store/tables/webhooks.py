"""Webhooks, and the messages that wait for them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from pilothouse.store.tables.columns import count_column, metadata, now_column, partial_index, text_column, time_column

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("origin", Text, nullable=False, comment="scheme, host and port of the target: its path may be a secret"),
    Column("target_sealed", LargeBinary, nullable=False, comment="URL and the secret that signs"),
    Column("format", Text, nullable=False),
    Column("events", JSONB, nullable=False, comment="list of the events that are told"),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    now_column("created_at"),
    count_column("failures", "attempts that failed since the last one that did not"),
    text_column("last_error"),
    time_column("delivered_at", "when it last took a message"),
    time_column("not_before", "after a failure: nothing is sent sooner"),
    time_column("lease_until", "so long it is one worker's"),
    UniqueConstraint("project_id", "name"),
    CheckConstraint("jsonb_typeof(events) = 'array'", "events"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("webhook_id", Text, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("event", Text, nullable=False),
    Column("facts", JSONB, nullable=False, comment="what it is about; the trigger operation_end_is_told writes ends"),
    Column("state", Text, nullable=False, server_default="pending"),
    count_column("attempts"),
    Column("status", Integer, comment="of the last answer"),
    text_column("error", "why the last attempt failed"),
    now_column("created_at"),
    now_column("due_at"),
    time_column("ended_at"),
    CheckConstraint("jsonb_typeof(facts) = 'object'", "facts"),
    CheckConstraint("state IN ('pending', 'delivered', 'given_up')", "state"),
    Index("ix_webhook_deliveries_of_webhook", "webhook_id", "id"),
    partial_index("ix_webhook_deliveries_pending", "webhook_id", "due_at", where="state = 'pending'"),
    partial_index("ix_webhook_deliveries_ended", "ended_at", where="ended_at IS NOT NULL"),
)

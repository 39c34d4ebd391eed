"""Operations, their queue, plans and evidence."""

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Computed,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from pilothouse.store.tables.columns import (
    big_count_column,
    count_column,
    flag_column,
    metadata,
    now_column,
    partial_index,
    text_column,
    time_column,
)

#: What a worker holds.
IS_HELD = text("state IN ('running', 'cancelling') AND lease_until IS NOT NULL")
# The conditions of the queue's partial indexes: all that waits, by its turn; by project; by cluster; by project and API
# server. A query must repeat its condition to the letter. Each has a last term that is always true and that no other
# index has, so that only one index fits: a queue grows from nothing to thousands before PostgreSQL counts it, and until
# then it takes any index that fits for as good as the right one.
IN_ORDER = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND queue_position >= 0")
OF_PROJECTS = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND project_id <> ''")
OF_CLUSTERS = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND cluster_id <> ''")
OF_SERVERS = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND attempt >= 0")
#: What waits with a large order; smaller ones are limited by their number. ``has_room_for_order`` has it, too.
IS_LARGE = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND order_bytes >= 8192")

operations = Table(
    "operations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("user_id", Text, nullable=False, comment="no foreign key: the record outlives the user"),
    Column("cluster_id", Text, nullable=False, comment="no foreign key: the record outlives the cluster"),
    text_column("api_server", "host, port and path of the cluster's API server: the same for all registrations of it"),
    Column("namespace", Text, nullable=False),
    Column("release_name", Text, nullable=False),
    Column("action", Text, nullable=False, comment="install, upgrade, rollback, uninstall, test"),
    Column("state", Text, nullable=False, comment="queued, running, cancelling, succeeded, failed, cancelled"),
    Column("chart_digest", Text, comment="pinned at accept; none for actions without a chart"),
    Column(
        "pinned_digest",
        Text,
        Computed("CASE WHEN state IN ('queued', 'running', 'cancelling') THEN chart_digest END", persisted=True),
        ForeignKey("chart_archives.digest"),
        comment="chart_digest while the operation lives, then NULL: what keeps the archive",
    ),
    Column("chart_id", Text, nullable=False),
    Column("chart_name", Text, nullable=False),
    Column("chart_version", Text, nullable=False),
    Column("request_sealed", LargeBinary, comment="values and flags; none after the end, see services"),
    Column("shown_sealed", LargeBinary, comment="what is shown of the order; none when nobody is left to show it to"),
    big_count_column("order_bytes", "of the sealed order, as it was accepted"),
    flag_column("include_hooks", "as the request said it"),
    Column("revision", BigInteger, comment="the revision that the attempt writes, once known"),
    Column("last_writing_attempt", Integer, comment="the last attempt that may have written to the cluster"),
    Column("base_revision", BigInteger, comment="the newest revision when the attempt began to act; none: no release"),
    text_column("base_uid", "uid of the base's Secret"),
    text_column("base_version", "resourceVersion of the base's Secret"),
    text_column("description", "the user's own text for the release"),
    text_column("status_description"),
    flag_column("wrote_revision", "Helm stored a revision"),
    time_column("dismissed_at", "a failure without a revision is no longer shown"),
    big_count_column(
        "queue_position", "place in the queue: each project's next operation before any project's one after that"
    ),
    count_column("attempt"),
    count_column("crashes", "attempts that ended by a crash"),
    Column("lapsed_attempt", Integer, comment="the last attempt counted as a crash because its lease lapsed"),
    text_column("last_error", "why the last attempt did not end it"),
    text_column("worker", "who holds the lease: host, pid, slot"),
    time_column("lease_until"),
    time_column("taken_at", "when the last attempt began to hold it"),
    time_column("not_before", "a retry waits until then"),
    Column("deadline_seconds", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    now_column("created_at"),
    time_column("cancelling_at", "when its cancel was asked for"),
    flag_column("keep_resources", "what was installed stays"),
    flag_column("cancel_deletes", "by a DELETE: what the install was to replace goes, too"),
    Column("restore_revision", BigInteger, comment="the last deployed revision before it wrote: where an undo leads"),
    Column(
        "undo_revision", BigInteger, comment="the revision that its undo writes, once known; base_* are the undo's then"
    ),
    Column("failure", Text, nullable=False, server_default="", comment="why it failed, while that is undone"),
    time_column("started_at"),
    time_column("finished_at"),
    time_column("answers_until", "the end of the last Idempotency-Key that stands for it"),
    Column("plan_id", Text, comment="the plan that it applies; no foreign key: the record outlives the plan"),
    Column(
        "trace_parent",
        Text,
        nullable=False,
        server_default="",
        comment="what continues the trace of the request (W3C Trace Context); empty if none was recorded",
    ),
    CheckConstraint("action IN ('install', 'upgrade', 'rollback', 'uninstall', 'test')", "action"),
    CheckConstraint("state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')", "state"),
    partial_index("ix_operations_queue", "queue_position", "created_at", where=IN_ORDER),
    partial_index("ix_operations_queue_of_project", "project_id", "queue_position", where=OF_PROJECTS),
    partial_index("ix_operations_queue_of_cluster", "cluster_id", where=OF_CLUSTERS),
    partial_index("ix_operations_large_orders", "project_id", "order_bytes", where=IS_LARGE),
    # The queues of the projects for each API server: the take looks at the heads of those that may run.
    partial_index(
        "ix_operations_queue_of_server", "project_id", "api_server", "queue_position", "created_at", where=OF_SERVERS
    ),
    partial_index("ix_operations_leases", "lease_until", where="operations.state IN ('running', 'cancelling')"),
    # What retention walks.
    partial_index("ix_operations_finished", "finished_at", "id", where="finished_at IS NOT NULL"),
    # What has ended and still has an order, or something of it.
    partial_index(
        "ix_operations_orders",
        "finished_at",
        where="finished_at IS NOT NULL AND (request_sealed IS NOT NULL OR shown_sealed IS NOT NULL)",
    ),
    partial_index("ix_operations_pinned_digest", "pinned_digest", where="pinned_digest IS NOT NULL"),
    Index("ix_operations_release", "cluster_id", "namespace", "release_name"),
    Index("ix_operations_of_project", "project_id", "created_at", "id"),
    # What failed before Helm wrote a revision; together with one_writer, all that lies over the index.
    partial_index(
        "ix_operations_failed",
        "cluster_id",
        "namespace",
        "release_name",
        where="state = 'failed' AND NOT wrote_revision AND dismissed_at IS NULL",
    ),
)

#: The second writer of a release is refused by this index, not by a look-up.
one_writer = Index(
    "uq_operations_one_writer",
    operations.c.cluster_id,
    operations.c.namespace,
    operations.c.release_name,
    unique=True,
    postgresql_where=operations.c.state.in_(["queued", "running", "cancelling"]),
)

#: A plan is applied at most once.
one_application = Index(
    "uq_operations_plan", operations.c.plan_id, unique=True, postgresql_where=operations.c.plan_id.is_not(None)
)


def in_states(states: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition on an operation's state with the states written out.

    A worker's plans are generic, and PostgreSQL cannot prove the condition of a partial index by parameters.
    """
    return operations.c.state.in_(
        bindparam("states", [str(state) for state in states], expanding=True, literal_execute=True, unique=True)
    )


#: What somebody reviewed, until it is applied or expires.
plans = Table(
    "plans",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("user_id", Text, nullable=False, comment="no foreign key: the record outlives the user"),
    Column("cluster_id", Text, nullable=False, comment="no foreign key: what is gone is told when it is applied"),
    Column("action", Text, nullable=False, comment="of the operation that applies it"),
    Column("digest", Text, nullable=False, comment="of all that must not move, with a secret in the sealed part"),
    Column("plan_sealed", LargeBinary, nullable=False, comment="see services/releases/plan_records.py"),
    Column("comparison_sealed", LargeBinary, comment="what only people look at; null before version 0038"),
    Column("plan_bytes", BigInteger, nullable=False, comment="of both sealed parts, for the quota"),
    now_column("created_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    text_column("namespace"),
    text_column("release_name"),
    Index("ix_plans_of_project", "project_id", "expires_at"),
    Index("ix_plans_expired", "expires_at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", Text, primary_key=True, comment="no foreign key: as in operations"),
    Column("key", Text, primary_key=True, comment="as the header Idempotency-Key had it"),
    Column("operation_id", Text, ForeignKey("operations.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("record_sealed", LargeBinary, nullable=False, comment="which request it was and what it answered"),
    now_column("created_at"),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

repairs = Table(
    "repairs",
    metadata,
    Column("operation_id", Text, ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
    Column("cluster_id", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("release_name", Text, nullable=False),
    Column(
        "objects",
        Text,
        nullable=False,
        server_default="[]",
        comment="JSON: apiVersion, kind, namespace and name of what an uninstalled revision had",
    ),
    time_column("due_at", "none until the operation has ended"),
    time_column("lease_until", "until then a worker is at it, and writers wait"),
)

operation_events = Table(
    "operation_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("operation_id", Text, ForeignKey("operations.id", ondelete="CASCADE"), nullable=False, index=True),
    now_column("at"),
    Column("attempt", Integer, nullable=False),
    Column("kind", Text, nullable=False, comment="a snake_case verb phrase"),
    Column("text", Text, nullable=False),
    Column("data", JSONB(none_as_null=True), comment="the same for programs, where there is more than a text can tell"),
    CheckConstraint("jsonb_typeof(data) = 'object'", "data"),
)

operation_evidence = Table(
    "operation_evidence",
    metadata,
    Column("operation_id", Text, ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    now_column("at"),
    Column("found", Text, nullable=False, comment="JSON without secrets, see worker/diagnostics/evidence.py"),
)

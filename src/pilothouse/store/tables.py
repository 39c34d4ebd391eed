"""The tables as SQLAlchemy sees them; ``migrations/`` creates them, and a test compares the two.

Every secret is sealed (``*_sealed``, see ``auth.sealing``): the database never holds a plaintext key, password,
kubeconfig or release value.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Computed,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _created() -> Column[datetime]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


def _failures() -> Column[int]:
    return Column(
        "failures",
        Integer,
        nullable=False,
        server_default="0",
        comment="proofs that failed since the last one that did not",
    )


def _locked_until() -> Column[datetime]:
    return Column("locked_until", DateTime(timezone=True), nullable=True)


domains = Table(
    "domains",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _created(),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    _created(),
    UniqueConstraint("domain_id", "name"),
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column(
        "generation",
        Integer,
        nullable=False,
        server_default="0",
        comment="raised when password, keys, roles or state change; older tokens are dead",
    ),
    _created(),
    UniqueConstraint("domain_id", "name"),
)

password_failures = Table(
    "password_failures",
    metadata,
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("address", Text, primary_key=True, comment="where the guesses came from: IPv4, or the /64 of IPv6"),
    _failures(),
    _locked_until(),
    Column("failed_at", DateTime(timezone=True), nullable=False, index=True),
)

access_keys = Table(
    "access_keys",
    metadata,
    Column("id", Text, primary_key=True, comment="20 characters [A-Z0-9]: what clients call AK"),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False, index=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False, comment="used when X-Project-Id is absent"),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    _failures(),
    _locked_until(),
    _created(),
    Column("expires_at", DateTime(timezone=True), nullable=True),
    Column("last_used_at", DateTime(timezone=True), nullable=True, comment="to the minute"),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column(
        "project_id",
        Text,
        ForeignKey("projects.id", ondelete="CASCADE"),
        comment="NULL: the account and every project of it",
    ),
    Column("role", Text, nullable=False, comment="a name in auth.policy.ROLES"),
    _created(),
)
Index(
    "uq_role_assignments_project",
    role_assignments.c.user_id,
    role_assignments.c.project_id,
    role_assignments.c.role,
    unique=True,
    postgresql_where=role_assignments.c.project_id.is_not(None),
)
Index(
    "uq_role_assignments_account",
    role_assignments.c.user_id,
    role_assignments.c.role,
    unique=True,
    postgresql_where=role_assignments.c.project_id.is_(None),
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", Text, primary_key=True, comment="lower-case hex SHA-256 of the token"),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("generation", Integer, nullable=False, comment="of the user when its password was checked"),
    Column("scope", Text, nullable=False, comment="project, domain or none"),
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), index=True),
    Column("issued_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("expires_at", DateTime(timezone=True), nullable=False, index=True),
    Column("proven_at", DateTime(timezone=True), nullable=False, comment="when a password was given for it"),
    CheckConstraint("scope IN ('project', 'domain', 'none')", "scope"),
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
    _created(),
    Column(
        "identity",
        Text,
        nullable=False,
        server_default="",
        comment="uid of its namespace kube-system, which no other cluster has; empty if it may not be read",
    ),
    UniqueConstraint("project_id", "name"),
    CheckConstraint("wait IN ('none', 'hooks', 'ready')", "wait"),
)

chart_archives = Table(
    "chart_archives",
    metadata,
    Column("digest", Text, primary_key=True, comment="lower-case hex SHA-256 of content"),
    Column("content", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    _created(),
    Column(
        "unused_since",
        DateTime(timezone=True),
        comment="when no chart and no living operation was found to use it; it is deleted a while later",
    ),
)

charts = Table(
    "charts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, ForeignKey("chart_archives.digest"), nullable=False),
    Column("description", Text, nullable=False),
    Column("icon_url", Text, nullable=False),
    Column("instruction", Text, nullable=False, comment="name of the readme file, or empty"),
    Column("values_json", Text, nullable=False, comment="values.yaml as compact JSON with sorted keys"),
    Column("source", Text, nullable=False, server_default=""),
    Column("visible", Boolean, nullable=False, server_default=text("true")),
    _created(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("project_id", "name", "version"),
    Index("ix_charts_digest", "digest"),
)

#: Which projects brought an archive: it counts for them until it is collected.
project_archives = Table(
    "project_archives",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", Text, ForeignKey("chart_archives.digest", ondelete="CASCADE"), primary_key=True),
    Index("ix_project_archives_digest", "digest"),
)

operations = Table(
    "operations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("user_id", Text, nullable=False, comment="no foreign key: the record outlives the user"),
    Column("cluster_id", Text, nullable=False, comment="no foreign key: the record outlives the cluster"),
    Column(
        "api_server",
        Text,
        nullable=False,
        server_default="",
        comment="host, port and path of the cluster's API server: the same for all registrations of it",
    ),
    Column("namespace", Text, nullable=False),
    Column("release_name", Text, nullable=False),
    Column("action", Text, nullable=False, comment="install, upgrade, rollback, uninstall"),
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
    Column(
        "order_bytes",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="of the sealed order, as it was accepted",
    ),
    Column("include_hooks", Boolean, nullable=False, server_default=text("false"), comment="as the request said it"),
    Column("revision", BigInteger, comment="the revision that the attempt writes, once known"),
    Column("last_writing_attempt", Integer, comment="the last attempt that may have written to the cluster"),
    Column("base_revision", BigInteger, comment="the newest revision when the attempt began to act; none: no release"),
    Column("base_uid", Text, nullable=False, server_default="", comment="uid of the base's Secret"),
    Column("base_version", Text, nullable=False, server_default="", comment="resourceVersion of the base's Secret"),
    Column("description", Text, nullable=False, server_default="", comment="the user's own text for the release"),
    Column("status_description", Text, nullable=False, server_default=""),
    Column("wrote_revision", Boolean, nullable=False, server_default=text("false"), comment="Helm stored a revision"),
    Column("dismissed_at", DateTime(timezone=True), comment="a failure without a revision is no longer shown"),
    Column(
        "queue_position",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="place in the queue: each project's next operation before any project's one after that",
    ),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("crashes", Integer, nullable=False, server_default=text("0"), comment="attempts that ended by a crash"),
    Column("lapsed_attempt", Integer, comment="the last attempt counted as a crash because its lease lapsed"),
    Column("last_error", Text, nullable=False, server_default="", comment="why the last attempt did not end it"),
    Column("worker", Text, nullable=False, server_default="", comment="who holds the lease: host, pid, slot"),
    Column("lease_until", DateTime(timezone=True)),
    Column("taken_at", DateTime(timezone=True), comment="when the last attempt began to hold it"),
    Column("not_before", DateTime(timezone=True), comment="a retry waits until then"),
    Column("deadline_seconds", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    _created(),
    Column("cancelling_at", DateTime(timezone=True), comment="when its cancel was asked for"),
    Column("keep_resources", Boolean, nullable=False, server_default=text("false"), comment="what was installed stays"),
    Column(
        "cancel_deletes",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="by a DELETE: what the install was to replace goes, too",
    ),
    Column("restore_revision", BigInteger, comment="the last deployed revision before it wrote: where an undo leads"),
    Column(
        "undo_revision", BigInteger, comment="the revision that its undo writes, once known; base_* are the undo's then"
    ),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("answers_until", DateTime(timezone=True), comment="the end of the last Idempotency-Key that stands for it"),
    CheckConstraint("action IN ('install', 'upgrade', 'rollback', 'uninstall')", "action"),
    CheckConstraint("state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')", "state"),
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


def in_states(states: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition on an operation's state with the states written out.

    A worker's plans are generic, and PostgreSQL cannot prove the condition of a partial index by parameters.
    """
    return operations.c.state.in_(
        bindparam("states", [str(state) for state in states], expanding=True, literal_execute=True, unique=True)
    )


#: What a worker holds.
IS_HELD = text("state IN ('running', 'cancelling') AND lease_until IS NOT NULL")
# What waits: in order, of a project, of a cluster, of a project for an API server.
# Each has an index that says more than its question needs, so that no other index fits the question: a queue grows from
# nothing to thousands before PostgreSQL counts it, and until then it takes whatever index fits for as good as the right
# one. To be used to the letter.
IN_ORDER = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND queue_position >= 0")
OF_PROJECTS = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND project_id <> ''")
OF_CLUSTERS = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND cluster_id <> ''")
OF_SERVERS = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND attempt >= 0")
#: What waits with a large order; smaller ones are limited by their number. ``has_room_for_order`` has it, too.
IS_LARGE = text("state IN ('queued', 'cancelling') AND lease_until IS NULL AND order_bytes >= 8192")

Index("ix_operations_queue", operations.c.queue_position, operations.c.created_at, postgresql_where=IN_ORDER)
Index(
    "ix_operations_queue_of_project", operations.c.project_id, operations.c.queue_position, postgresql_where=OF_PROJECTS
)
Index("ix_operations_queue_of_cluster", operations.c.cluster_id, postgresql_where=OF_CLUSTERS)
Index("ix_operations_large_orders", operations.c.project_id, operations.c.order_bytes, postgresql_where=IS_LARGE)
#: The queues of the projects for each API server: the take looks at the heads of those that may run.
Index(
    "ix_operations_queue_of_server",
    operations.c.project_id,
    operations.c.api_server,
    operations.c.queue_position,
    operations.c.created_at,
    postgresql_where=OF_SERVERS,
)
Index(
    "ix_operations_leases",
    operations.c.lease_until,
    postgresql_where=operations.c.state.in_(["running", "cancelling"]),
)
#: What retention walks.
Index(
    "ix_operations_finished",
    operations.c.finished_at,
    operations.c.id,
    postgresql_where=operations.c.finished_at.is_not(None),
)
#: What has ended and still has an order, or something of it.
Index(
    "ix_operations_orders",
    operations.c.finished_at,
    postgresql_where=text("finished_at IS NOT NULL AND (request_sealed IS NOT NULL OR shown_sealed IS NOT NULL)"),
)
Index(
    "ix_operations_pinned_digest",
    operations.c.pinned_digest,
    postgresql_where=operations.c.pinned_digest.is_not(None),
)
Index("ix_operations_release", operations.c.cluster_id, operations.c.namespace, operations.c.release_name)
Index("ix_operations_of_project", operations.c.project_id, operations.c.created_at, operations.c.id)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", Text, primary_key=True, comment="no foreign key: as in operations"),
    Column("key", Text, primary_key=True, comment="as the header Idempotency-Key had it"),
    Column("operation_id", Text, ForeignKey("operations.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("record_sealed", LargeBinary, nullable=False, comment="which request it was and what it answered"),
    _created(),
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
    Column("due_at", DateTime(timezone=True), comment="none until the operation has ended"),
    Column("lease_until", DateTime(timezone=True), comment="until then a worker is at it, and writers wait"),
)

cluster_watches = Table(
    "cluster_watches",
    metadata,
    Column("cluster_id", Text, ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    Column("holder", Text, nullable=False, server_default="", comment="the observer that watches it, see observers"),
    Column("lease_until", DateTime(timezone=True)),
    Column("epoch", Integer, nullable=False, server_default=text("0"), comment="grows when resourceVersions went back"),
    Column(
        "resource_version",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="up to here everything is in the index; 0: a list is due",
    ),
    Column("listed_at", DateTime(timezone=True), comment="the first complete list; before it, reads ask the cluster"),
    Column("seen_at", DateTime(timezone=True), comment="when the cluster last confirmed that nothing is missing"),
    Column("error", Text, nullable=False, server_default="", comment="why the cluster is not watched now"),
    Column(
        "truncated",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="the cluster has more release Secrets than the index takes",
    ),
)

observers = Table(
    "observers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seen_at", DateTime(timezone=True), nullable=False),
)

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
    Column("gone_at", DateTime(timezone=True), comment="a tombstone: late news of the Secret must not revive it"),
    Column("problem", Text, nullable=False, server_default="", comment="why the Secret cannot be read; then not shown"),
    Column("uid", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("description", Text, nullable=False, comment="Helm's own text"),
    Column("chart_name", Text, nullable=False),
    Column("chart_version", Text, nullable=False),
    Column("first_deployed", DateTime(timezone=True)),
    Column("last_deployed", DateTime(timezone=True)),
    Column("values_sealed", LargeBinary),
    Column("values_size", Integer, nullable=False, server_default=text("0"), comment="bytes of values_sealed"),
    Column(
        "values_text_size",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="bytes of the values as JSON text; if not 0 and they are NULL, they are too large to be kept",
    ),
    Column("origin_chart_id", Text, nullable=False, server_default="", comment="of the operation that wrote it"),
    Column("origin_description", Text, nullable=False, server_default="", comment="the user's own text, likewise"),
    Column("app_version", Text, nullable=False, server_default="", comment="the chart's appVersion"),
    Column(
        "manager",
        Text,
        nullable=False,
        server_default="",
        comment="the program besides Helm that its marks name, and its object; empty for none",
    ),
    Column(
        "origin_operation_id",
        Text,
        nullable=False,
        server_default="",
        comment="the operation that wrote it, if it installed or upgraded",
    ),
    Column(
        "exposed",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="may be the newest although superseded: what came after it was deleted",
    ),
)

Index(
    "ix_release_revisions_shown",
    release_revisions.c.cluster_id,
    release_revisions.c.namespace,
    release_revisions.c.name,
    release_revisions.c.revision,
    postgresql_where=text("gone_at IS NULL AND problem = ''"),
)
#: Each release's newest revision is among these, and hardly another one.
Index(
    "ix_release_revisions_newest",
    release_revisions.c.cluster_id,
    release_revisions.c.namespace,
    release_revisions.c.name,
    release_revisions.c.revision.desc(),
    postgresql_where=text("gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed)"),
)
Index(
    "ix_release_revisions_problem",
    release_revisions.c.cluster_id,
    postgresql_where=text("gone_at IS NULL AND problem <> ''"),
)
#: What failed before Helm wrote a revision; together with one_writer, all that lies over the index.
Index(
    "ix_operations_failed",
    operations.c.cluster_id,
    operations.c.namespace,
    operations.c.release_name,
    postgresql_where=text("state = 'failed' AND NOT wrote_revision AND dismissed_at IS NULL"),
)

operation_events = Table(
    "operation_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("operation_id", Text, ForeignKey("operations.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
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
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("found", Text, nullable=False, comment="JSON without secrets, see worker/diagnostics/evidence.py"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("action", Text, nullable=False, comment="the vendor's action name, for example cce:release:create"),
    Column("target", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("operation_id", Text, nullable=False, server_default=""),
    Column("domain_id", Text, nullable=False, server_default="", comment="whose administrators may see the row"),
    Column("user_name", Text, nullable=False, server_default=""),
    Column("project_name", Text, nullable=False, server_default=""),
    Column("target_name", Text, nullable=False, server_default=""),
    Column("source", Text, nullable=False, server_default="", comment="the address that the request came from"),
    Column("outcome", Text, nullable=False, server_default="done", comment="done, denied (role) or failed (proof)"),
    Column("detail", Text, nullable=False, server_default=""),
    Column("times", Integer, nullable=False, server_default="1", comment="how often, from the time of the row on"),
    CheckConstraint("outcome IN ('done', 'denied', 'failed')", "outcome"),
)
Index("ix_audit_of_domain", audit.c.domain_id, audit.c.id)
Index("ix_audit_failed", audit.c.id, postgresql_where=text("outcome = 'failed'"))

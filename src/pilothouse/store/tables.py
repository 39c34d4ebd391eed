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
    TextClause,
    UniqueConstraint,
    bindparam,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _text(name: str, comment: str | None = None) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="", comment=comment)


def _count(name: str, comment: str | None = None) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"), comment=comment)


def _big_count(name: str, comment: str | None = None) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"), comment=comment)


def _flag(name: str, comment: str | None = None) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text("false"), comment=comment)


def _time(name: str, comment: str | None = None) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), comment=comment)


def _now(name: str) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


def _fingerprints(name: str, comment: str) -> Column[list[str]]:
    return Column(name, ARRAY(Text), nullable=False, server_default="{}", comment=comment)


def _where_it_counts() -> Column[str]:
    return Column(
        "project_id",
        Text,
        ForeignKey("projects.id", ondelete="CASCADE"),
        comment="NULL: the account and every project of it",
    )


def _index(name: str, *columns: str | TextClause, where: str | TextClause, unique: bool = False) -> Index:
    condition = text(where) if isinstance(where, str) else where
    return Index(name, *columns, unique=unique, postgresql_where=condition)


schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    Column("oldest_program", Text, primary_key=True, comment="one row: the newest migration that this program has"),
)

domains = Table(
    "domains",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _now("created_at"),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    _text("description"),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    _now("created_at"),
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
    _count("generation", "raised when password, keys, roles or state change; older tokens are dead"),
    _now("created_at"),
    _text("issuer", "of the identity provider that the user comes from; empty: a user with a password here"),
    _text("subject", "who it is there"),
    Column("groups", ARRAY(Text), nullable=False, server_default="{}", comment="there, as last stated"),
    _time("groups_stated_at", "when the provider stated them; an older statement changes nothing"),
    _time("groups_until", "how long they count"),
    UniqueConstraint("domain_id", "name"),
    _index("uq_users_subject", "domain_id", "issuer", "subject", unique=True, where="issuer <> ''"),
)

groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("issuer", Text, nullable=False, comment="of the identity provider whose group it is"),
    Column("name", Text, nullable=False),
    _now("created_at"),
    UniqueConstraint("domain_id", "issuer", "name"),
)

group_roles = Table(
    "group_roles",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("group_id", Text, ForeignKey("groups.id", ondelete="CASCADE"), nullable=False),
    _where_it_counts(),
    Column("role", Text, nullable=False, comment="a name in auth.policy.ROLES"),
    _now("created_at"),
    _index("uq_group_roles_project", "group_id", "project_id", "role", unique=True, where="project_id IS NOT NULL"),
    _index("uq_group_roles_account", "group_id", "role", unique=True, where="project_id IS NULL"),
)

password_failures = Table(
    "password_failures",
    metadata,
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("address", Text, primary_key=True, comment="where the guesses came from: IPv4, or the /64 of IPv6"),
    _count("failures", "proofs that failed since the last one that did not"),
    _time("locked_until"),
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
    _count("failures", "proofs that failed since the last one that did not"),
    _time("locked_until"),
    _now("created_at"),
    _time("expires_at"),
    _time("last_used_at", "to the minute"),
    _text("description", "what it is for, as its user says"),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    _where_it_counts(),
    Column("role", Text, nullable=False, comment="a name in auth.policy.ROLES"),
    _now("created_at"),
    _index("uq_role_assignments_project", "user_id", "project_id", "role", unique=True, where="project_id IS NOT NULL"),
    _index("uq_role_assignments_account", "user_id", "role", unique=True, where="project_id IS NULL"),
)

policies = Table(
    "policies",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("document", Text, nullable=False, comment="one that cannot be read denies everything"),
    _now("created_at"),
    UniqueConstraint("domain_id", "name"),
)

policy_attachments = Table(
    "policy_attachments",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("policy_id", Text, ForeignKey("policies.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), index=True),
    Column("group_id", Text, ForeignKey("groups.id", ondelete="CASCADE"), index=True),
    _where_it_counts(),
    _now("created_at"),
    Index(
        "uq_policy_attachments_one",
        text("policy_id"),
        *(text(f"coalesce({column}, '')") for column in ("user_id", "group_id", "project_id")),
        unique=True,
    ),
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", Text, primary_key=True, comment="lower-case hex SHA-256 of the token"),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("generation", Integer, nullable=False, comment="of the user when its password was checked"),
    Column("scope", Text, nullable=False, comment="project, domain or none"),
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), index=True),
    _now("issued_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False, index=True),
    Column("proven_at", DateTime(timezone=True), nullable=False, comment="when a password was given for it"),
    CheckConstraint("scope IN ('project', 'domain', 'none')", "scope"),
)

exchanged_tokens = Table("exchanged_tokens", metadata, Column("digest", Text, primary_key=True), _now("until"))

sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True, comment="lower-case hex SHA-256 of the cookie"),
    Column("id", Text, nullable=False, unique=True, comment="names it to its user; opens nothing"),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("generation", Integer, nullable=False, comment="of the user when the session was opened"),
    Column("token_digest", Text, ForeignKey("tokens.digest", ondelete="CASCADE"), index=True),
    _now("created_at"),
    Column("proven_at", DateTime(timezone=True), nullable=False, comment="when a password was given for it"),
    _now("used_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False, index=True),
    Column("source", Text, nullable=False, comment="address that it was opened from"),
    Column("agent", Text, nullable=False, comment="browser that it was opened with, as it calls itself"),
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
    _now("created_at"),
    _text("identity", "uid of its namespace kube-system, which no other cluster has; empty if it may not be read"),
    Column(
        "wall_namespaces", ARRAY(Text), nullable=False, server_default="{}", comment="the project's; empty: no wall"
    ),
    _text("wall_user", "who the kubeconfig's account impersonates; empty: no wall"),
    Column("wall_groups", ARRAY(Text), nullable=False, server_default="{}", comment="groups of wall_user"),
    Column("drift_seconds", Integer, comment="between periodic looks at drift; 0: none; null: as the settings say"),
    UniqueConstraint("project_id", "name"),
    CheckConstraint("wait IN ('none', 'hooks', 'ready')", "wait"),
)

#: Where charts come from: registries and repositories of a project.
chart_sources = Table(
    "chart_sources",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("url", Text, nullable=False, comment="without credentials"),
    Column("credentials_sealed", LargeBinary, comment="see services/sources/records.py; null: none"),
    _text("ca", "PEM of authorities that are trusted beside the system's"),
    Column("verification", Text, nullable=False, server_default="none", comment="none, pgp or cosign"),
    _text("verification_keys", "public keys, by one of which its charts must be signed"),
    _fingerprints("trusted", "of the keys that can sign, subkeys included"),
    _fingerprints("unusable", "of the others, each with the reason"),
    _count("sync_seconds", "how often it is synchronised by itself; 0: never"),
    _text("etag", "of the index that was read last"),
    _text("last_modified", "of the index that was read last"),
    _time("synced_at", "when it last answered as a source"),
    _text("problem", "why the last synchronisation failed; empty if it did not"),
    _time("failed_at", "when its last synchronisation failed; null: it did not"),
    _time("pushed_at", "when a chart was pushed to it last, by this server"),
    _time("due_at", "when it is synchronised by itself"),
    _time("syncing_until", "until then one process synchronises it"),
    _now("created_at"),
    UniqueConstraint("project_id", "name"),
    CheckConstraint("kind IN ('oci', 'http')", "kind"),
    CheckConstraint("verification IN ('none', 'pgp', 'cosign')", "verification"),
    _index("ix_chart_sources_due", "due_at", where="due_at IS NOT NULL"),
)

#: What a source has: the versions of its index, or of the tags that were asked for.
source_versions = Table(
    "source_versions",
    metadata,
    Column("source_id", Text, ForeignKey("chart_sources.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("order_key", Text(collation="C"), nullable=False, comment="sorts like the versions; see engine/sources.go"),
    _flag("is_newest", "the newest stable one of its chart"),
    _flag("is_gone", "the source has it no more, and it was pulled"),
    _text("app_version"),
    _text("description"),
    _text("icon_url"),
    _text("keywords"),
    _flag("deprecated"),
    _time("released_at"),
    _text("url", "of the archive, absolute or relative to the source's; empty in a registry"),
    _text("digest", "SHA-256 of the archive as the index says it"),
    _text("manifest", "in a registry, the digest of the one that was seen last under the tag"),
    _time("moved_at", "when a synchronisation found another archive than the one that was pulled"),
    _text("moved_from", "the digest of the archive that was pulled before"),
    _text("moved_to", "the digest that the source had then; empty: of no chart"),
    _index("ix_source_versions_newest", "source_id", "name", where="is_newest"),
)

#: Where each pulled chart came from, even after it was dropped, and what its source has that is newer.
chart_origins = Table(
    "chart_origins",
    metadata,
    Column("chart_id", Text, primary_key=True),
    Column("source_id", Text, ForeignKey("chart_sources.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("order_key", Text(collation="C"), nullable=False, comment="of this version, as in source_versions"),
    _text("newer_version", "the newest stable one of the source, if it is newer than this"),
    _flag("newer_deprecated"),
    Index("ix_chart_origins_chart", "source_id", "name", "version"),
)

#: The sources that releases' charts were pulled from and that were removed since; a row goes when no release needs it.
removed_origins = Table(
    "removed_origins",
    metadata,
    Column("chart_id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("source", Text, nullable=False, comment="its name"),
    Column("url", Text, nullable=False),
    _now("removed_at"),
    _now("checked_at"),  # when a release was last seen to need the row
    Index("ix_removed_origins_checked_at", "checked_at"),
)

#: What was refused when it was pulled, as no key of its source has signed it; not offered while that may hold.
refused_versions = Table(
    "refused_versions",
    metadata,
    Column("source_id", Text, ForeignKey("chart_sources.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    _text("digest", "as the source listed it then; empty: it listed none"),
    _text("reason"),
    _text("evidence", "a digest of what signed it then; see services/sources/fetched.py"),
    _now("refused_at"),
)

#: What a source with keys was found to have signed by one of them, before it is pulled: that may be offered.
signed_versions = Table(
    "signed_versions",
    metadata,
    Column("source_id", Text, ForeignKey("chart_sources.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    _text("digest", "as the source listed it then; empty: it listed none"),
    _now("looked_at"),
)

chart_archives = Table(
    "chart_archives",
    metadata,
    Column("digest", Text, primary_key=True, comment="lower-case hex SHA-256 of content"),
    Column("content", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    _now("created_at"),
    _time("unused_since", "when no chart and no living operation was found to use it; it is deleted a while later"),
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
    _text("source"),
    Column("visible", Boolean, nullable=False, server_default=text("true")),
    _now("created_at"),
    _now("updated_at"),
    Column("source_id", Text, ForeignKey("chart_sources.id", ondelete="CASCADE"), comment="null: uploaded"),
    _index("uq_charts_uploaded", "project_id", "name", "version", where="source_id IS NULL", unique=True),
    _index("uq_charts_pulled", "source_id", "name", "version", where="source_id IS NOT NULL", unique=True),
    Index("ix_charts_digest", "digest"),
)

#: Which keys a project trusts for uploads; ``verified_only``: nothing else may be installed. No row: neither.
project_trust = Table(
    "project_trust",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    _flag("verified_only"),
    _text("verification_keys", "armored public keys"),
    _fingerprints("trusted", "of the keys that can sign, subkeys included"),
    _fingerprints("unusable", "of the others, each with the reason"),
)

#: Who signed archives, as verified when they came; what has become of chart and source since does not matter.
chart_verifications = Table(
    "chart_verifications",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("signing_key", Text, primary_key=True, comment="what is compared: a subkey may have signed"),
    Column("fingerprint", Text, nullable=False, comment="of the primary key, which is shown"),
    Column("kind", Text, nullable=False, comment="pgp or cosign"),
    _text("signed_by", "the name in the key"),
    _time("signed_at", "as the signature says; null: it does not"),
    Column("signed_digest", Text, nullable=False, comment="of the archive, or of its manifest in a registry"),
    _text("source", "the name of the source then; empty: uploaded"),
    _text("provenance", "what was signed, with the signature"),
    _flag("of_revision", "the archive was packed from a revision of what was verified: shown, and no proof"),
    _now("verified_at"),
    CheckConstraint("kind IN ('pgp', 'cosign')", "kind"),
    Index("ix_chart_verifications_verified_at", "verified_at"),
)

#: Which projects brought an archive: it counts for them until it is collected.
project_archives = Table(
    "project_archives",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", Text, ForeignKey("chart_archives.digest", ondelete="CASCADE"), primary_key=True),
    Index("ix_project_archives_digest", "digest"),
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
    _text("api_server", "host, port and path of the cluster's API server: the same for all registrations of it"),
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
    _big_count("order_bytes", "of the sealed order, as it was accepted"),
    _flag("include_hooks", "as the request said it"),
    Column("revision", BigInteger, comment="the revision that the attempt writes, once known"),
    Column("last_writing_attempt", Integer, comment="the last attempt that may have written to the cluster"),
    Column("base_revision", BigInteger, comment="the newest revision when the attempt began to act; none: no release"),
    _text("base_uid", "uid of the base's Secret"),
    _text("base_version", "resourceVersion of the base's Secret"),
    _text("description", "the user's own text for the release"),
    _text("status_description"),
    _flag("wrote_revision", "Helm stored a revision"),
    _time("dismissed_at", "a failure without a revision is no longer shown"),
    _big_count(
        "queue_position", "place in the queue: each project's next operation before any project's one after that"
    ),
    _count("attempt"),
    _count("crashes", "attempts that ended by a crash"),
    Column("lapsed_attempt", Integer, comment="the last attempt counted as a crash because its lease lapsed"),
    _text("last_error", "why the last attempt did not end it"),
    _text("worker", "who holds the lease: host, pid, slot"),
    _time("lease_until"),
    _time("taken_at", "when the last attempt began to hold it"),
    _time("not_before", "a retry waits until then"),
    Column("deadline_seconds", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    _now("created_at"),
    _time("cancelling_at", "when its cancel was asked for"),
    _flag("keep_resources", "what was installed stays"),
    _flag("cancel_deletes", "by a DELETE: what the install was to replace goes, too"),
    Column("restore_revision", BigInteger, comment="the last deployed revision before it wrote: where an undo leads"),
    Column(
        "undo_revision", BigInteger, comment="the revision that its undo writes, once known; base_* are the undo's then"
    ),
    Column("failure", Text, nullable=False, server_default="", comment="why it failed, while that is undone"),
    _time("started_at"),
    _time("finished_at"),
    _time("answers_until", "the end of the last Idempotency-Key that stands for it"),
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
    _index("ix_operations_queue", "queue_position", "created_at", where=IN_ORDER),
    _index("ix_operations_queue_of_project", "project_id", "queue_position", where=OF_PROJECTS),
    _index("ix_operations_queue_of_cluster", "cluster_id", where=OF_CLUSTERS),
    _index("ix_operations_large_orders", "project_id", "order_bytes", where=IS_LARGE),
    # The queues of the projects for each API server: the take looks at the heads of those that may run.
    _index(
        "ix_operations_queue_of_server", "project_id", "api_server", "queue_position", "created_at", where=OF_SERVERS
    ),
    _index("ix_operations_leases", "lease_until", where="operations.state IN ('running', 'cancelling')"),
    # What retention walks.
    _index("ix_operations_finished", "finished_at", "id", where="finished_at IS NOT NULL"),
    # What has ended and still has an order, or something of it.
    _index(
        "ix_operations_orders",
        "finished_at",
        where="finished_at IS NOT NULL AND (request_sealed IS NOT NULL OR shown_sealed IS NOT NULL)",
    ),
    _index("ix_operations_pinned_digest", "pinned_digest", where="pinned_digest IS NOT NULL"),
    Index("ix_operations_release", "cluster_id", "namespace", "release_name"),
    Index("ix_operations_of_project", "project_id", "created_at", "id"),
    # What failed before Helm wrote a revision; together with one_writer, all that lies over the index.
    _index(
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
    _now("created_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    _text("namespace"),
    _text("release_name"),
    Index("ix_plans_of_project", "project_id", "expires_at"),
    Index("ix_plans_expired", "expires_at"),
)


def in_states(states: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition on an operation's state with the states written out.

    A worker's plans are generic, and PostgreSQL cannot prove the condition of a partial index by parameters.
    """
    return operations.c.state.in_(
        bindparam("states", [str(state) for state in states], expanding=True, literal_execute=True, unique=True)
    )


idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", Text, primary_key=True, comment="no foreign key: as in operations"),
    Column("key", Text, primary_key=True, comment="as the header Idempotency-Key had it"),
    Column("operation_id", Text, ForeignKey("operations.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("record_sealed", LargeBinary, nullable=False, comment="which request it was and what it answered"),
    _now("created_at"),
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
    _time("due_at", "none until the operation has ended"),
    _time("lease_until", "until then a worker is at it, and writers wait"),
)

cluster_watches = Table(
    "cluster_watches",
    metadata,
    Column("cluster_id", Text, ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True),
    _text("holder", "the observer that watches it, see observers"),
    _time("lease_until"),
    _count("epoch", "grows when resourceVersions went back"),
    _big_count("resource_version", "up to here everything is in the index; 0: a list is due"),
    _time("listed_at", "the first complete list; before it, reads ask the cluster"),
    _time("seen_at", "when the cluster last confirmed that nothing is missing"),
    _text("error", "why the cluster is not watched now"),
    _flag("truncated", "the cluster has more release Secrets than the index takes"),
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
    _time("gone_at", "a tombstone: late news of the Secret must not revive it"),
    _text("problem", "why the Secret cannot be read; then not shown"),
    Column("uid", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("description", Text, nullable=False, comment="Helm's own text"),
    Column("chart_name", Text, nullable=False),
    Column("chart_version", Text, nullable=False),
    _time("first_deployed"),
    _time("last_deployed"),
    _time("deleted_at", "when an uninstall of it began that has kept it"),
    Column("values_sealed", LargeBinary),
    _count("values_size", "bytes of values_sealed"),
    _count(
        "values_text_size",
        "bytes of the values as JSON text; if not 0 and they are NULL, they are too large to be kept",
    ),
    _text("origin_chart_id", "of the operation that wrote it"),
    _text("origin_description", "the user's own text, likewise"),
    _text("app_version", "the chart's appVersion"),
    _text("manager", "the program besides Helm that its marks name, and its object; empty for none"),
    _text("origin_operation_id", "the operation that wrote it, if it installed or upgraded"),
    _flag("exposed", "may be the newest although superseded: what came after it was deleted"),
    _index(
        *("ix_release_revisions_shown", "cluster_id", "namespace", "name", "revision"),
        where="gone_at IS NULL AND problem = ''",
    ),
    # Each release's newest revision is among these, and hardly another one.
    _index(
        *("ix_release_revisions_newest", "cluster_id", "namespace", "name", text("revision DESC")),
        where="gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed)",
    ),
    _index("ix_release_revisions_problem", "cluster_id", where="gone_at IS NULL AND problem <> ''"),
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
    _now("created_at"),
    _count("failures", "attempts that failed since the last one that did not"),
    _text("last_error"),
    _time("delivered_at", "when it last took a message"),
    _time("not_before", "after a failure: nothing is sent sooner"),
    _time("lease_until", "so long it is one worker's"),
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
    _count("attempts"),
    Column("status", Integer, comment="of the last answer"),
    _text("error", "why the last attempt failed"),
    _now("created_at"),
    _now("due_at"),
    _time("ended_at"),
    CheckConstraint("jsonb_typeof(facts) = 'object'", "facts"),
    CheckConstraint("state IN ('pending', 'delivered', 'given_up')", "state"),
    Index("ix_webhook_deliveries_of_webhook", "webhook_id", "id"),
    _index("ix_webhook_deliveries_pending", "webhook_id", "due_at", where="state = 'pending'"),
    _index("ix_webhook_deliveries_ended", "ended_at", where="ended_at IS NOT NULL"),
)

operation_events = Table(
    "operation_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("operation_id", Text, ForeignKey("operations.id", ondelete="CASCADE"), nullable=False, index=True),
    _now("at"),
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
    _now("at"),
    Column("found", Text, nullable=False, comment="JSON without secrets, see worker/diagnostics/evidence.py"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _now("at"),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("action", Text, nullable=False, comment="the vendor's action name, for example cce:release:create"),
    Column("target", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    _text("operation_id"),
    _text("domain_id", "whose administrators may see the row"),
    _text("user_name"),
    _text("project_name"),
    _text("target_name"),
    _text("source", "the address that the request came from"),
    Column("outcome", Text, nullable=False, server_default="done", comment="done, denied (role), failed, or started"),
    _text("detail"),
    Column("times", Integer, nullable=False, server_default="1", comment="how often, from the time of the row on"),
    CheckConstraint("outcome IN ('done', 'denied', 'failed', 'started')", "outcome"),
    Index("ix_audit_by_time", "domain_id", "at", "id"),
    _index("ix_audit_failed", "id", where="outcome = 'failed'"),
    # The names of clusters that are not there any more.
    _index(
        *("ix_audit_about_clusters", "domain_id", "target_name"),
        where="action IN ('cce:cluster:create', 'cce:cluster:delete')",
    ),
)

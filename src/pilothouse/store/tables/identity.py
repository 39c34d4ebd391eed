"""Accounts, projects, users, and by what they prove themselves."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from pilothouse.store.tables.columns import count_column, metadata, now_column, partial_index, text_column, time_column


def _where_it_counts() -> Column[str]:
    return Column(
        "project_id",
        Text,
        ForeignKey("projects.id", ondelete="CASCADE"),
        comment="NULL: the account and every project of it",
    )


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
    now_column("created_at"),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    text_column("description"),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    now_column("created_at"),
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
    count_column("generation", "raised when password, keys, roles or state change; older tokens are dead"),
    now_column("created_at"),
    text_column("issuer", "of the identity provider that the user comes from; empty: a user with a password here"),
    text_column("subject", "who it is there"),
    Column("groups", ARRAY(Text), nullable=False, server_default="{}", comment="there, as last stated"),
    time_column("groups_stated_at", "when the provider stated them; an older statement changes nothing"),
    time_column("groups_until", "how long they count"),
    UniqueConstraint("domain_id", "name"),
    partial_index("uq_users_subject", "domain_id", "issuer", "subject", unique=True, where="issuer <> ''"),
)

groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("issuer", Text, nullable=False, comment="of the identity provider whose group it is"),
    Column("name", Text, nullable=False),
    now_column("created_at"),
    UniqueConstraint("domain_id", "issuer", "name"),
)

group_roles = Table(
    "group_roles",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("group_id", Text, ForeignKey("groups.id", ondelete="CASCADE"), nullable=False),
    _where_it_counts(),
    Column("role", Text, nullable=False, comment="a name in auth.policy.ROLES"),
    now_column("created_at"),
    partial_index(
        "uq_group_roles_project", "group_id", "project_id", "role", unique=True, where="project_id IS NOT NULL"
    ),
    partial_index("uq_group_roles_account", "group_id", "role", unique=True, where="project_id IS NULL"),
)

password_failures = Table(
    "password_failures",
    metadata,
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("address", Text, primary_key=True, comment="where the guesses came from: IPv4, or the /64 of IPv6"),
    count_column("failures", "proofs that failed since the last one that did not"),
    time_column("locked_until"),
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
    count_column("failures", "proofs that failed since the last one that did not"),
    time_column("locked_until"),
    now_column("created_at"),
    time_column("expires_at"),
    time_column("last_used_at", "to the minute"),
    text_column("description", "what it is for, as its user says"),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    _where_it_counts(),
    Column("role", Text, nullable=False, comment="a name in auth.policy.ROLES"),
    now_column("created_at"),
    partial_index(
        "uq_role_assignments_project", "user_id", "project_id", "role", unique=True, where="project_id IS NOT NULL"
    ),
    partial_index("uq_role_assignments_account", "user_id", "role", unique=True, where="project_id IS NULL"),
)

policies = Table(
    "policies",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("document", Text, nullable=False, comment="one that cannot be read denies everything"),
    now_column("created_at"),
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
    now_column("created_at"),
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
    now_column("issued_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False, index=True),
    Column("proven_at", DateTime(timezone=True), nullable=False, comment="when a password was given for it"),
    CheckConstraint("scope IN ('project', 'domain', 'none')", "scope"),
)

exchanged_tokens = Table("exchanged_tokens", metadata, Column("digest", Text, primary_key=True), now_column("until"))

sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True, comment="lower-case hex SHA-256 of the cookie"),
    Column("id", Text, nullable=False, unique=True, comment="names it to its user; opens nothing"),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("generation", Integer, nullable=False, comment="of the user when the session was opened"),
    Column("token_digest", Text, ForeignKey("tokens.digest", ondelete="CASCADE"), index=True),
    now_column("created_at"),
    Column("proven_at", DateTime(timezone=True), nullable=False, comment="when a password was given for it"),
    now_column("used_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False, index=True),
    Column("source", Text, nullable=False, comment="address that it was opened from"),
    Column("agent", Text, nullable=False, comment="browser that it was opened with, as it calls itself"),
)

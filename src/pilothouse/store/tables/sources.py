"""Where charts come from, and what is known of them there."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, LargeBinary, Table, Text, UniqueConstraint

from pilothouse.store.tables.columns import (
    count_column,
    fingerprints_column,
    flag_column,
    metadata,
    now_column,
    partial_index,
    text_column,
    time_column,
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
    text_column("ca", "PEM of authorities that are trusted beside the system's"),
    Column("verification", Text, nullable=False, server_default="none", comment="none, pgp or cosign"),
    text_column("verification_keys", "public keys, by one of which its charts must be signed"),
    fingerprints_column("trusted", "of the keys that can sign, subkeys included"),
    fingerprints_column("unusable", "of the others, each with the reason"),
    count_column("sync_seconds", "how often it is synchronised by itself; 0: never"),
    text_column("etag", "of the index that was read last"),
    text_column("last_modified", "of the index that was read last"),
    time_column("synced_at", "when it last answered as a source"),
    text_column("problem", "why the last synchronisation failed; empty if it did not"),
    time_column("failed_at", "when its last synchronisation failed; null: it did not"),
    time_column("pushed_at", "when a chart was pushed to it last, by this server"),
    time_column("due_at", "when it is synchronised by itself"),
    time_column("syncing_until", "until then one process synchronises it"),
    now_column("created_at"),
    UniqueConstraint("project_id", "name"),
    CheckConstraint("kind IN ('oci', 'http')", "kind"),
    CheckConstraint("verification IN ('none', 'pgp', 'cosign')", "verification"),
    partial_index("ix_chart_sources_due", "due_at", where="due_at IS NOT NULL"),
)

#: What a source has: the versions of its index, or of the tags that were asked for.
source_versions = Table(
    "source_versions",
    metadata,
    Column("source_id", Text, ForeignKey("chart_sources.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("order_key", Text(collation="C"), nullable=False, comment="sorts like the versions; see engine/sources.go"),
    flag_column("is_newest", "the newest stable one of its chart"),
    flag_column("is_gone", "the source has it no more, and it was pulled"),
    text_column("app_version"),
    text_column("description"),
    text_column("icon_url"),
    text_column("keywords"),
    flag_column("deprecated"),
    time_column("released_at"),
    text_column("url", "of the archive, absolute or relative to the source's; empty in a registry"),
    text_column("digest", "SHA-256 of the archive as the index says it"),
    text_column("manifest", "in a registry, the digest of the one that was seen last under the tag"),
    time_column("moved_at", "when a synchronisation found another archive than the one that was pulled"),
    text_column("moved_from", "the digest of the archive that was pulled before"),
    text_column("moved_to", "the digest that the source had then; empty: of no chart"),
    partial_index("ix_source_versions_newest", "source_id", "name", where="is_newest"),
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
    text_column("newer_version", "the newest stable one of the source, if it is newer than this"),
    flag_column("newer_deprecated"),
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
    now_column("removed_at"),
    now_column("checked_at"),  # when a release was last seen to need the row
    Index("ix_removed_origins_checked_at", "checked_at"),
)

#: What was refused when it was pulled, as no key of its source has signed it; not offered while that may hold.
refused_versions = Table(
    "refused_versions",
    metadata,
    Column("source_id", Text, ForeignKey("chart_sources.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    text_column("digest", "as the source listed it then; empty: it listed none"),
    text_column("reason"),
    text_column("evidence", "a digest of what signed it then; see services/sources/fetched.py"),
    now_column("refused_at"),
)

#: What a source with keys was found to have signed by one of them, before it is pulled: that may be offered.
signed_versions = Table(
    "signed_versions",
    metadata,
    Column("source_id", Text, ForeignKey("chart_sources.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    text_column("digest", "as the source listed it then; empty: it listed none"),
    now_column("looked_at"),
)

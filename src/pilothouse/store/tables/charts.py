"""Charts, their archives, and who has signed them."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, ForeignKey, Index, LargeBinary, Table, Text, text

from pilothouse.store.tables.columns import (
    fingerprints_column,
    flag_column,
    metadata,
    now_column,
    partial_index,
    text_column,
    time_column,
)

chart_archives = Table(
    "chart_archives",
    metadata,
    Column("digest", Text, primary_key=True, comment="lower-case hex SHA-256 of content"),
    Column("content", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    now_column("created_at"),
    time_column(
        "unused_since", "when no chart and no living operation was found to use it; it is deleted a while later"
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
    text_column("source"),
    Column("visible", Boolean, nullable=False, server_default=text("true")),
    now_column("created_at"),
    now_column("updated_at"),
    Column("source_id", Text, ForeignKey("chart_sources.id", ondelete="CASCADE"), comment="null: uploaded"),
    partial_index("uq_charts_uploaded", "project_id", "name", "version", where="source_id IS NULL", unique=True),
    partial_index("uq_charts_pulled", "source_id", "name", "version", where="source_id IS NOT NULL", unique=True),
    Index("ix_charts_digest", "digest"),
)

#: Which keys a project trusts for uploads; ``verified_only``: nothing else may be installed. No row: neither.
project_trust = Table(
    "project_trust",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    flag_column("verified_only"),
    text_column("verification_keys", "armored public keys"),
    fingerprints_column("trusted", "of the keys that can sign, subkeys included"),
    fingerprints_column("unusable", "of the others, each with the reason"),
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
    text_column("signed_by", "the name in the key"),
    time_column("signed_at", "as the signature says; null: it does not"),
    Column("signed_digest", Text, nullable=False, comment="of the archive, or of its manifest in a registry"),
    text_column("source", "the name of the source then; empty: uploaded"),
    text_column("provenance", "what was signed, with the signature"),
    flag_column("of_revision", "the archive was packed from a revision of what was verified: shown, and no proof"),
    now_column("verified_at"),
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

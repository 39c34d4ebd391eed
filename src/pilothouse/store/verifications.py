"""Queries about who signed charts, and whose signatures a project trusts.

A verification counts as long as its key is one of the project's, or of one of its sources: to remove the key, or the
source, is to trust it no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, any_, bindparam, delete, exists, func, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY, insert

from pilothouse.store.database import Transaction
from pilothouse.store.tables import chart_sources, chart_verifications, charts, operations, project_trust

#: So long a verification stays that no chart and no operation needs.
_UNUSED_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class NewVerification:
    """Who signed an archive; ``signed_digest`` is of what was signed: the archive, or its manifest in a registry.

    ``fingerprint`` is of the key that people know, ``signing_key`` of the one that signed: the same, or a subkey.
    """

    kind: str
    fingerprint: str
    signing_key: str
    signed_by: str
    signed_at: datetime | None
    signed_digest: str
    source: str
    provenance: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class VerificationRow(NewVerification):
    """A verification, and when it was made.

    ``of_revision``: it is of another archive, from whose release this one was taken, and proves nothing of this one.
    ``key_trusted``: its key is still one that the project trusts. ``trusted``: that, and it is of this one.
    """

    digest: str
    verified_at: datetime
    of_revision: bool
    key_trusted: bool
    trusted: bool


@dataclass(frozen=True)
class TrustRow:
    """Which keys a project trusts for uploads, and whether it takes verified charts only.

    ``trusted``: the fingerprints of those that can sign; ``unusable``: of the others, each with the reason.
    """

    verified_only: bool = False
    verification_keys: str = field(default="", repr=False)
    trusted: Sequence[str] = ()
    unusable: Sequence[str] = ()


@dataclass(frozen=True)
class SourceTrust:
    """The keys of a source, as those of a project are told."""

    name: str
    verification: str
    trusted: Sequence[str]
    unusable: Sequence[str]


async def list_sources(tx: Transaction, project_id: str) -> list[SourceTrust]:
    """Return the project's sources that have keys, by name."""
    return [SourceTrust(**row) for row in (await tx.execute(_LIST_SOURCES, {"of_project": project_id})).mappings()]


async def find_trust(tx: Transaction, project_id: str) -> TrustRow:
    """Return which keys the project trusts."""
    row = (await tx.execute(_FIND_TRUST, {"of_project": project_id})).mappings().one_or_none()
    return TrustRow(**row) if row is not None else TrustRow()


async def hold_trust(tx: Transaction, project_id: str) -> TrustRow:
    """Return which keys the project trusts, and keep that until the transaction ends."""
    await tx.execute(insert(project_trust).values(project_id=project_id).on_conflict_do_nothing())
    return TrustRow(**(await tx.execute(_HOLD_TRUST, {"of_project": project_id})).mappings().one())


async def set_trust(tx: Transaction, project_id: str, changes: Mapping[str, object]) -> TrustRow:
    """Replace these fields of what the project trusts, whatever the others are by now, and return all."""
    statement = insert(project_trust).values(project_id=project_id, **changes)
    statement = statement.on_conflict_do_update(index_elements=["project_id"], set_=changes)
    return TrustRow(**(await tx.execute(statement.returning(*_TRUST))).mappings().one())


async def record(tx: Transaction, new: NewVerification, *, project_id: str, digest: str) -> None:
    """Keep who signed the project's archive of that digest."""
    values = asdict(new)
    statement = insert(chart_verifications).values(project_id=project_id, digest=digest, **values)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["project_id", "digest", "signing_key"],
            set_={**values, "of_revision": False, "verified_at": func.clock_timestamp()},
        )
    )


async def has(tx: Transaction, new: NewVerification, *, project_id: str, digest: str) -> bool:
    """Return whether it is kept already that this key has signed the project's archive of that digest."""
    found = exists().where(
        chart_verifications.c.project_id == project_id,
        chart_verifications.c.digest == digest,
        chart_verifications.c.signing_key == new.signing_key,
        ~chart_verifications.c.of_revision,
    )
    return bool((await tx.execute(select(found))).scalar_one())


async def find(tx: Transaction, *, project_id: str, digest: str) -> VerificationRow | None:
    """Return the last verification of the archive, one by a trusted key first."""
    row = (await tx.execute(_FIND, {"of_project": project_id, "of_digest": digest})).mappings().one_or_none()
    return VerificationRow(**row) if row is not None else None


async def list_signers(tx: Transaction, *, project_id: str, digests: Sequence[str]) -> dict[str, str]:
    """Return who signed these archives by keys that the project trusts: the name in the key, or its fingerprint."""
    rows = await tx.execute(_LIST_SIGNERS, {"of_project": project_id, "of_digests": list(digests)})
    return {row.digest: row.signed_by or row.fingerprint for row in rows}


async def counts(tx: Transaction, *, project_id: str, digest: str) -> bool:
    """Return True if a key that the project trusts has signed the archive."""
    return bool((await tx.execute(_COUNTS, {"of_project": project_id, "of_digest": digest})).scalar_one())


@dataclass(frozen=True, kw_only=True)
class PackedRevision:
    """Where a revision is that an archive was packed from, and the operation that it says has written it."""

    project_id: str
    cluster_id: str
    namespace: str
    name: str
    revision: int
    operation_id: str


async def pass_on(tx: Transaction, packed: PackedRevision, *, digest: str) -> None:
    """Let the archive of that digest, packed from a revision, show the verification of what the operation installed.

    It is no proof: who may write to the cluster may have changed what the revision holds, or copied what it says.
    """
    place = {f"of_{name}": value for name, value in vars(packed).items()}
    await tx.execute(_PASS_ON, {**place, "new_digest": digest})


async def expire(tx: Transaction, *, limit: int) -> int:
    """Delete at most ``limit`` verifications of archives of which neither a chart nor an operation tells."""
    return (await tx.execute(_EXPIRE, {"most": limit})).rowcount


def is_trusted(fingerprint: ColumnElement[str], project_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Build the condition that the key is one that the project trusts."""
    return or_(
        exists().where(project_trust.c.project_id == project_id, fingerprint == any_(project_trust.c.trusted)),
        exists().where(chart_sources.c.project_id == project_id, fingerprint == any_(chart_sources.c.trusted)),
    )


def is_verified(digest: ColumnElement[str], project_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Build the condition that a key that the project trusts has signed the archive."""
    return exists().where(
        chart_verifications.c.project_id == project_id,
        chart_verifications.c.digest == digest,
        ~chart_verifications.c.of_revision,
        is_trusted(chart_verifications.c.signing_key, project_id),
    )


def is_refused(digest: ColumnElement[str], project_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Build the condition that the project takes verified charts only, and the archive is none."""
    only = exists().where(project_trust.c.project_id == project_id, project_trust.c.verified_only)
    return and_(only, ~is_verified(digest, project_id))


_OF_PROJECT = bindparam("of_project", type_=chart_verifications.c.project_id.type)
_COUNTS = select(is_verified(bindparam("of_digest", type_=chart_verifications.c.digest.type), _OF_PROJECT))
_TRUST = [project_trust.c[one.name] for one in fields(TrustRow)]
_FIND_TRUST = select(*_TRUST).where(project_trust.c.project_id == _OF_PROJECT)
_HOLD_TRUST = _FIND_TRUST.with_for_update()
_LIST_SOURCES = (
    select(*(chart_sources.c[one.name] for one in fields(SourceTrust)))
    .where(chart_sources.c.project_id == _OF_PROJECT, chart_sources.c.verification != "none")
    .order_by(chart_sources.c.name)
)
_SIGNED = ("kind", "fingerprint", "signing_key", "signed_by", "signed_at", "signed_digest", "source", "provenance")
_KEY_TRUSTED = is_trusted(chart_verifications.c.signing_key, _OF_PROJECT)
_TRUSTED = and_(~chart_verifications.c.of_revision, _KEY_TRUSTED).label("trusted")
_FIND = (
    select(*(chart_verifications.c[name] for name in (*_SIGNED, "digest", "verified_at", "of_revision")))
    .add_columns(_KEY_TRUSTED.label("key_trusted"), _TRUSTED)
    .where(chart_verifications.c.project_id == _OF_PROJECT, chart_verifications.c.digest == bindparam("of_digest"))
    .order_by(_TRUSTED.desc(), chart_verifications.c.verified_at.desc())
    .limit(1)
)
_LIST_SIGNERS = (
    select(chart_verifications.c.digest, chart_verifications.c.signed_by, chart_verifications.c.fingerprint)
    .where(
        chart_verifications.c.project_id == _OF_PROJECT,
        chart_verifications.c.digest == any_(bindparam("of_digests", type_=ARRAY(chart_verifications.c.digest.type))),
        ~chart_verifications.c.of_revision,
        is_trusted(chart_verifications.c.signing_key, _OF_PROJECT),
    )
    .order_by(chart_verifications.c.verified_at)
)
_PASSED_ON = ("project_id", *_SIGNED, "verified_at")
_PASS_ON = (
    insert(chart_verifications)
    .from_select(
        [*_PASSED_ON, "digest", "of_revision"],
        select(
            *(chart_verifications.c[name] for name in _PASSED_ON),
            bindparam("new_digest", type_=chart_verifications.c.digest.type),
            true(),
        )
        .join(
            operations,
            and_(
                operations.c.chart_digest == chart_verifications.c.digest,
                operations.c.project_id == chart_verifications.c.project_id,
            ),
        )
        .where(
            operations.c.id == bindparam("of_operation_id"),
            operations.c.cluster_id == bindparam("of_cluster_id"),
            operations.c.namespace == bindparam("of_namespace"),
            operations.c.release_name == bindparam("of_name"),
            operations.c.revision == bindparam("of_revision"),
            operations.c.wrote_revision,
            operations.c.project_id == bindparam("of_project_id"),
        ),
    )
    .on_conflict_do_nothing()
)
_UNUSED = (
    select(chart_verifications.c.project_id, chart_verifications.c.digest)
    .where(
        chart_verifications.c.verified_at
        < func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, _UNUSED_SECONDS),
        ~exists().where(
            charts.c.digest == chart_verifications.c.digest, charts.c.project_id == chart_verifications.c.project_id
        ),
        ~exists().where(
            operations.c.chart_digest == chart_verifications.c.digest,
            operations.c.project_id == chart_verifications.c.project_id,
        ),
    )
    .order_by(chart_verifications.c.verified_at)
    .limit(bindparam("most"))
    .subquery()
)
_EXPIRE = delete(chart_verifications).where(
    chart_verifications.c.project_id == _UNUSED.c.project_id, chart_verifications.c.digest == _UNUSED.c.digest
)

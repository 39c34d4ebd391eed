"""A chart source as it is stored and shown: names, addresses, and sealed credentials."""

import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import unquote

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from pilothouse.auth.sealing import MasterKeys
from pilothouse.chart_sources.fetch import Origin, authority
from pilothouse.chart_sources.registry import registry_url
from pilothouse.errors import DamagedRow, DecryptionFailed, InvalidArgument, InvalidRequest
from pilothouse.services.charts.signatures import TrustedKeys
from pilothouse.services.charts.trust import describe_keys, list_keys
from pilothouse.store.sources import NewSource, SourceRow

Kind = Literal["oci", "http"]
VerificationKind = Literal["none", "pgp", "cosign"]
#: Anything that TLS may read as a certificate.
_BLOCK: Final = re.compile(r"-----BEGIN [^-]*-----.*?-----END [^-]*-----", re.DOTALL)
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_MOST_AUTHORITIES: Final = 20
#: Of an address, and of a user's name, in the audit.
_LONGEST_TOLD: Final = 300
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Credentials:
    """User name and password of a source."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source as callers see it; ``problem``: why it could not be synchronised last, and ``failed_at`` when.

    ``trusted``: fingerprints of the keys by one of which its charts must be signed. ``unusable``: of the keys that were
    given with them and cannot sign any more, each with the reason. ``authorities``: of its CA, if asked.
    """

    id: str
    name: str
    kind: Kind
    url: str
    username: str
    has_ca: bool
    verification: VerificationKind
    trusted: list[str]
    unusable: list[str]
    sync_seconds: int
    created_at: datetime
    synced_at: datetime | None
    problem: str
    failed_at: datetime | None = None
    authorities: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class AddSource:
    """A source that is to be added; ``sync_seconds`` 0: it is synchronised only when asked to."""

    name: str
    kind: Kind
    url: str
    credentials: Credentials | None = None
    ca: str = ""
    sync_seconds: int = 0
    verification: VerificationKind = "none"
    verification_keys: str = ""


@dataclass(frozen=True, kw_only=True)
class ChangeSource:
    """What a source is to have from now on; what is None stays as it is. Empty credentials: none."""

    credentials: Credentials | None = None
    ca: str | None = None
    sync_seconds: int | None = None
    verification: VerificationKind | None = None
    verification_keys: str = ""


def check_name(name: str) -> None:
    """Raise InvalidRequest if the text may not name a source."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"name: {name[:80]!a} is not the name of a source: a lower-case letter, then lower-case letters, digits "
            "and '-', ending in a letter or digit, at most 63 characters"
        )


def checked_url(kind: Kind, url: str) -> str:
    """Return the URL of a source as it is stored; raise InvalidRequest for one that no source has."""
    wanted = "oci://" if kind == "oci" else "https://"
    if not url.startswith((wanted, *(["http://"] if kind == "http" else []))):
        insecure = ", or with http:// if the server's setting PILOTHOUSE_SOURCES__ALLOW_HTTP=true allows that"
        raise InvalidArgument(
            f"url: that of a source of the kind {kind} begins with {wanted}{insecure if kind == 'http' else ''}"
        )
    if "?" in url or "#" in url or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidArgument("url: it may have neither a query nor a fragment, and other characters are %-escaped")
    if "@" in url:
        raise InvalidArgument("url: it may hold no credentials; send them in the field credentials")
    if {".", ".."} & set(unquote(url).partition("://")[2].split("/")[1:]):
        raise InvalidArgument("url: its path may have no part '.' or '..'; write where it leads to")
    authority(address_of(kind, url))
    scheme, _, rest = url.rstrip("/").partition("://")
    folder, _, last = rest.rpartition("/")
    if kind == "http" and last == "index.yaml":
        raise InvalidArgument(
            f"url: leave {last} out; the address of a repository is that of its folder: {scheme}://{folder}"
        )
    if kind == "oci" and folder and ":" in last:
        raise InvalidArgument(
            f"url: {last[:80]!r} is a chart with its version; the address of a source is that of the folder of its "
            f"charts: oci://{folder}"
        )
    return url.rstrip("/")


def address_of(kind: str, url: str) -> str:
    """Return where requests to the source go."""
    return registry_url(url) if kind == "oci" else url


def seal_credentials(credentials: Credentials | None, *, keys: MasterKeys, source_id: str) -> bytes | None:
    """Return the credentials as they are stored."""
    if credentials is None or not (credentials.username or credentials.password):
        return None
    return keys.seal(orjson.dumps([credentials.username, credentials.password]), context=_context(source_id))


def open_credentials(row: SourceRow, *, keys: MasterKeys) -> Credentials | None:
    """Return the credentials of the source; raise DamagedRow if they cannot be read."""
    if row.credentials_sealed is None:
        return None
    try:
        username, password = orjson.loads(keys.unseal(row.credentials_sealed, context=_context(row.id)))
    except (DecryptionFailed, ValueError, TypeError) as error:
        raise DamagedRow(
            f"source {row.name!r}: its stored credentials cannot be read ({error}); give them again "
            "('pilothouse source update'), or restore the master key"
        ) from error
    return Credentials(username, password)


def origin_of(row: SourceRow, *, keys: MasterKeys) -> Origin:
    """Return the source for requests to it."""
    found = open_credentials(row, keys=keys) or Credentials("", "")
    return Origin(
        url=address_of(row.kind, row.url),
        username=found.username,
        password=found.password,
        ca=row.ca,
        known=row.synced_at is not None,
    )


def new_source(request: AddSource, trust: TrustedKeys, *, project_id: str, keys: MasterKeys) -> NewSource:
    """Return the source as it is stored; raise InvalidRequest for an address that no source has."""
    source_id = str(uuid.uuid4())
    return NewSource(
        id=source_id,
        project_id=project_id,
        name=request.name,
        kind=request.kind,
        url=checked_url(request.kind, request.url),
        credentials_sealed=seal_credentials(request.credentials, keys=keys, source_id=source_id),
        ca=request.ca,
        sync_seconds=request.sync_seconds,
        verification=request.verification,
        verification_keys=request.verification_keys,
        trusted=list(trust.trusted),
        unusable=list(trust.unusable),
    )


def unsaved_source(new: NewSource) -> SourceRow:
    """Return the source as it is asked before it is stored."""
    return SourceRow(
        **vars(new),
        etag="",
        last_modified="",
        synced_at=None,
        problem="",
        failed_at=None,
        pushed_at=None,
        due_at=None,
        syncing_until=None,
        created_at=_NEVER,
    )


def shown_source(row: SourceRow, *, keys: MasterKeys) -> Source:
    """Return the source as callers see it; credentials that cannot be read are its problem, and nothing beside it."""
    problem, username = row.problem, ""
    try:
        found = open_credentials(row, keys=keys)
        username = found.username if found is not None else ""
    except DamagedRow as error:
        problem = str(error)
    return Source(
        id=row.id,
        name=row.name,
        kind="oci" if row.kind == "oci" else "http",
        url=row.url,
        username=username,
        has_ca=bool(row.ca),
        verification=verification_of(row),
        trusted=row.trusted,
        unusable=row.unusable,
        sync_seconds=row.sync_seconds,
        created_at=row.created_at,
        synced_at=row.synced_at,
        problem=problem,
        failed_at=row.failed_at,
    )


class PasswordMissing(InvalidRequest):
    """Credentials are to be given again: the stored password is for those authorities only that were trusted then."""


def refuse_other_authorities(row: SourceRow, ca: str) -> None:
    """Return if the stored password goes nowhere else with that CA than without it, else raise PasswordMissing."""
    if row.credentials_sealed is not None and _adds_authorities(row.ca, ca):
        raise PasswordMissing(
            "credentials: missing; the stored password was given for the authorities of then, and a host with a "
            "certificate of another one could be sent it: give user name and password again, or empty ones for none"
        )


def _adds_authorities(before: str, after: str) -> bool:
    """Return True if the PEM text has anything that was not trusted before."""

    def blocks(pem: str) -> set[str]:
        return {"".join(block.split()) for block in _BLOCK.findall(pem)}

    return not blocks(after) <= blocks(before)


def describe_source(url: str, username: str, *, verification: str, trusted: list[str]) -> str:
    """Return what the audit tells of a source that is added or removed."""
    user = f", user {username}" if username else ""
    keys = f", verification {verification}: trusts {list_keys(trusted)}" if verification != "none" else ""
    return f"{url[:_LONGEST_TOLD]}{user[:_LONGEST_TOLD]}{keys}"


def describe_change(before: SourceRow, changes: dict[str, Any], *, username: str) -> str:
    """Return what the audit tells of a change: no secrets, but which way charts are verified from then on."""
    parts = []
    if "verification" in changes:
        parts.append(_describe_verification(before, changes["verification"], changes["trusted"]))
    if changes.get("credentials_sealed"):
        parts.append(f"credentials of user {username[:_LONGEST_TOLD]}")
    elif "credentials_sealed" in changes:
        parts.append("credentials taken away")
    parts += [column for column in ("ca", "sync_seconds") if column in changes]
    return "; ".join(part for part in parts if part)


def _describe_verification(before: SourceRow, now: str, trusted: list[str]) -> str:
    if now == before.verification:
        return f"keys of {now}: {describe_keys(before.trusted, trusted)}" if now != "none" else ""
    if now == "none":
        return f"verification turned off (it was {before.verification})"
    return f"verification {now} (it was {before.verification}): trusts {list_keys(trusted)}"


def describe_authorities(pem: str) -> list[str]:
    """Return subject, SHA-256 and end of the certificates, as many as a person looks at."""
    blocks = _CERTIFICATE.findall(pem)[:_MOST_AUTHORITIES]
    return [_describe(block) for block in blocks]


def _describe(block: str) -> str:
    try:
        found = x509.load_pem_x509_certificate(block.encode())
        name, until = found.subject.rfc4514_string(), found.not_valid_after_utc.date().isoformat()
        return f"{name or '(no subject)'}, sha256 {found.fingerprint(SHA256()).hex()}, until {until}"
    except ValueError:
        return "a certificate that cannot be read"


def verification_of(row: SourceRow) -> VerificationKind:
    """Return how the charts of the source are verified."""
    return "pgp" if row.verification == "pgp" else "cosign" if row.verification == "cosign" else "none"


def _context(source_id: str) -> str:
    return f"source:{source_id}"

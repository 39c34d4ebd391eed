"""Verification and creation of access-key signatures over a complete request.

Invariant: what is verified is what is executed. Everything here works on the raw bytes of the request target and the
header lines, before any framework has decoded them. Two requests that the application would read differently share a
canonical form only where the scheme itself says so: unsigned headers, a trailing slash, the order of query parameters,
and the body if the client signed ``UNSIGNED-PAYLOAD``.

Source: Huawei Cloud "API Request Signing Guide", the vendor SDK's signer, and golangsdk where they differ.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pilothouse.auth.schemes import DERIVED_HMAC_SHA256, HMAC_SHA256, SCHEMES, Key, Scheme, find_scheme, hmac_sha256
from pilothouse.errors import NotAuthenticated

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"

_DATE_HEADER: Final = b"x-sdk-date"
_DATE = re.compile(rb"[0-9]{8}T[0-9]{6}Z")
_DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")  # an RFC 9110 token, lower case
_AUTHORIZATION = re.compile(
    r"(?P<algorithm>[A-Za-z0-9-]{1,64})[ \t]+"
    r"(?:Access=(?P<access_key>[!-+\--~]{1,128})"
    r"|Credential=(?P<credential>[!-+\--.0-~]{1,128})/(?P<scope>[!-+\--~]{1,160})),[ \t]*"
    r"SignedHeaders=(?P<signed_headers>[!-+\--~]+),[ \t]*"
    r"Signature=(?P<signature>[0-9a-f]{1,512})"
)
_NAMED_KEY = re.compile(r"(?:Access|Credential)=(?P<key>[A-Za-z0-9_-]{1,128})")

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Signature:
    """The claims of an Authorization header, not yet verified."""

    scheme: str
    access_key: str
    signed_headers: tuple[str, ...]
    signature: str
    scope: str = ""  # of a derived key: yyyymmdd/region/service, or that and /sdk_request


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as received: target and headers undecoded, the body as its lower-case hex digest."""

    method: str
    raw_path: bytes
    query_string: bytes
    headers: Headers
    body_digest: str
    body_empty: bool


def parse_authorization(value: str) -> Signature:
    """Parse an Authorization header of a known scheme; raise NotAuthenticated for anything else."""
    match = _AUTHORIZATION.fullmatch(value.strip(" \t"))
    if match is None:
        raise _failed(
            "the Authorization header must read "
            f"'{HMAC_SHA256.name} Access=<access key>, SignedHeaders=<a;b;c>, Signature=<lower-case hex>'"
        )
    scheme = _claimed_scheme(match["algorithm"], match["scope"])
    names = tuple(match["signed_headers"].split(";"))
    if not all(_HEADER_NAME.fullmatch(name) for name in names):
        raise _failed("SignedHeaders must be lower-case header names joined by ';'")
    if len(set(names)) != len(names):
        raise _failed("SignedHeaders names a header twice")
    access_key = match["credential"] if scheme.scoped else match["access_key"]
    return Signature(scheme.name, access_key, names, match["signature"], match["scope"] or "")


def named_access_key(value: str) -> str:
    """Return the access key in an Authorization header, even if the rest of it is malformed; empty if there is none."""
    match = _NAMED_KEY.search(value)
    return match["key"] if match else ""


def check_headers(
    headers: Headers, signature: Signature, *, now: datetime, skew_seconds: int, ahead_seconds: int | None = None
) -> None:
    """Check that the date is signed and fresh and that all signed headers are present.

    A date may be ``skew_seconds`` off, and ahead of ``now`` by ``ahead_seconds`` if that is less, because a date in the
    future makes a captured request valid for longer.

    Needs neither secret nor body, so that a hopeless request can be refused before its body is read. Raises
    NotAuthenticated.
    """
    _signed_date(
        _by_name(headers), signature, now=now, skew_seconds=skew_seconds, ahead_seconds=ahead_seconds or skew_seconds
    )


def verify(request: SignedRequest, signature: Signature, *, secret_key: str, now: datetime, skew_seconds: int) -> None:
    """Check that the holder of the secret key signed this request within the allowed skew of ``now``.

    Raises NotAuthenticated with a text that completes the vendor's 'Incorrect IAM authentication information: '.
    """
    scheme = _scheme(signature.scheme)
    values = _by_name(request.headers)
    date = _signed_date(values, signature, now=now, skew_seconds=skew_seconds)
    key = Key(signature.access_key, secret_key, signature.scope)
    payloads = _payloads(request, values, signature, scheme)
    for payload in payloads:
        canonical = _canonical(request, values, signature.signed_headers, payload)
        if scheme.matches(key, _string_to_sign(scheme, date, key.scope, canonical), signature.signature):
            return
    expected = _canonical(request, values, signature.signed_headers, payloads[0])
    raise _failed(
        "the signature does not belong to this request and access key; the canonical request as received has the "
        f"hash {scheme.hexdigest(expected)}: compare it with the client's, "
        "and check the secret key and any proxy that rewrites path or headers"
    )


def sign(request: SignedRequest, *, access_key: str, secret_key: str, now: datetime) -> dict[str, str]:
    """Return the headers (X-Sdk-Date, Authorization) with which ``verify`` accepts the request.

    Signs all given headers with SDK-HMAC-SHA256. The names in ``request.headers`` may be in any case; a content header
    among them is used literally.
    """
    scheme = HMAC_SHA256
    date = now.astimezone(UTC).strftime(_DATE_FORMAT)
    values = _by_name([*request.headers, (_DATE_HEADER, date.encode())])
    names = tuple(sorted(name.decode("ascii") for name in values))
    payload = request.body_digest
    if not request.body_empty and scheme.content_header in values:
        payload = values[scheme.content_header][0].decode("ascii")
    text = _string_to_sign(scheme, date, "", _canonical(request, values, names, payload))
    proof = hmac_sha256(Key(access_key, secret_key), text)
    return {
        "X-Sdk-Date": date,
        "Authorization": f"{scheme.algorithm} Access={access_key}, SignedHeaders={';'.join(names)}, Signature={proof}",
    }


def canonical_request(request: SignedRequest, signed_headers: Sequence[str], payload: str) -> bytes:
    """Build the six lines that are hashed and signed; ``payload`` is the last one.

    Raises NotAuthenticated if a signed header is missing.
    """
    return _canonical(request, _by_name(request.headers), signed_headers, payload)


def body_digest(body: bytes, scheme: Scheme = HMAC_SHA256) -> str:
    """Return the digest of a body in the form that ``SignedRequest`` takes."""
    return scheme.hexdigest(body)


def _canonical(
    request: SignedRequest, values: Mapping[bytes, Sequence[bytes]], signed_headers: Sequence[str], payload: str
) -> bytes:
    lines = [request.method.upper().encode(), _canonical_path(request.raw_path), _canonical_query(request.query_string)]
    for name in signed_headers:
        # A repeated header gives one line per value, sorted: golangsdk's order, and no other client repeats one.
        key = name.encode()
        lines.extend(key + b":" + value for value in sorted(_present(values, name)))
    lines += [b"", ";".join(signed_headers).encode(), payload.encode()]
    return b"\n".join(lines)


def _canonical_path(raw_path: bytes) -> bytes:
    path = quote_from_bytes(unquote_to_bytes(raw_path), safe="/~").encode()
    return path if path.endswith(b"/") else path + b"/"


def _canonical_query(query_string: bytes) -> bytes:
    if not query_string:
        return b""
    # '+' is a space, because that is how the application will read it; golangsdk also writes it so.
    pairs = []
    for piece in query_string.replace(b"+", b" ").split(b"&"):
        if piece:
            key, _, value = piece.partition(b"=")
            pairs.append((unquote_to_bytes(key), unquote_to_bytes(value)))
    pairs.sort()
    encoded = (f"{quote_from_bytes(key, safe='~')}={quote_from_bytes(value, safe='~')}" for key, value in pairs)
    return "&".join(encoded).encode()


def _string_to_sign(scheme: Scheme, date: str, scope: str, canonical: bytes) -> bytes:
    scope_line = [scope] if scope else []
    return "\n".join([scheme.algorithm, date, *scope_line, scheme.hexdigest(canonical)]).encode()


def _payloads(
    request: SignedRequest, values: Mapping[bytes, Sequence[bytes]], signature: Signature, scheme: Scheme
) -> tuple[str, ...]:
    """Return the allowed values of the last line; more than one only where the vendor's clients differ."""
    sent = values.get(scheme.content_header, ())
    if not sent:
        if _is_upload_of_java(values, signature, scheme):
            return (request.body_digest, scheme.empty_digest)
        return (request.body_digest,)
    header = scheme.content_header.decode("ascii")
    if len(sent) > 1:
        raise _failed(f"{header} was sent {len(sent)} times; send it once")
    literal = sent[0].decode("latin-1")
    if literal == UNSIGNED_PAYLOAD and not request.body_empty and not _is_form(values):
        raise _failed(f"{header} {UNSIGNED_PAYLOAD} is for multipart/form-data only; sign the digest of the body")
    if literal != UNSIGNED_PAYLOAD and literal.lower() != request.body_digest:
        raise _failed(f"{header} is neither {UNSIGNED_PAYLOAD} nor the hex digest of the body that arrived")
    if request.body_empty and literal != scheme.empty_digest:
        # The vendor's SDKs hash the empty body whatever the header says; golangsdk copies the header.
        return (scheme.empty_digest, literal)
    return (literal,)


def _is_upload_of_java(values: Mapping[bytes, Sequence[bytes]], signature: Signature, scheme: Scheme) -> bool:
    """Return True if the client declared, under its signature, an unsigned body: Java SDK 3.1.130 does so with SM3.

    It names the SHA-256 header and signs the digest of an empty body. If the header were unsigned, anyone could add it
    to a captured request without a body, and append their own.
    """
    other = HMAC_SHA256.content_header
    return (
        scheme.content_header != other
        and values.get(other) == [UNSIGNED_PAYLOAD.encode()]
        and other.decode("ascii") in signature.signed_headers
        and _is_form(values)
    )


def _is_form(values: Mapping[bytes, Sequence[bytes]]) -> bool:
    """Return True for the media type that the vendor's SDKs leave unsigned; bodies of all others must be signed."""
    sent = values.get(b"content-type", ())
    return len(sent) == 1 and sent[0].lower().startswith(b"multipart/form-data")


def _signed_date(
    values: Mapping[bytes, Sequence[bytes]],
    signature: Signature,
    *,
    now: datetime,
    skew_seconds: int,
    ahead_seconds: int | None = None,
) -> str:
    if "x-sdk-date" not in signature.signed_headers:
        raise _failed("SignedHeaders must contain x-sdk-date")
    for name in signature.signed_headers:
        _present(values, name)
    sent = values[_DATE_HEADER]
    if len(sent) > 1:
        raise _failed(f"X-Sdk-Date was sent {len(sent)} times; send it once")
    if not _DATE.fullmatch(sent[0]):  # strptime alone would take single digits
        raise _failed("X-Sdk-Date must be a UTC time written YYYYMMDDTHHMMSSZ")
    text = sent[0].decode("ascii")
    try:
        date = datetime.strptime(text, _DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise _failed("X-Sdk-Date is not a valid date") from None
    if signature.scope and not signature.scope.startswith(f"{text[:8]}/"):
        raise _failed(f"the day in Credential is not that of X-Sdk-Date {text}")
    late = (now - date).total_seconds()
    allowed = skew_seconds if late > 0 or ahead_seconds is None else min(skew_seconds, ahead_seconds)
    if abs(late) > allowed:
        raise _failed(
            f"X-Sdk-Date {text} is {abs(late):.0f} s away from this server's clock, which allows "
            f"{allowed} s{' ahead' if late < 0 else ''}; set the client's clock"
        )
    return text


def _present(values: Mapping[bytes, Sequence[bytes]], name: str) -> Sequence[bytes]:
    found = values.get(name.encode())
    if found is None:
        raise _failed(f"the signed header {name} is missing from the request")
    return found


def _by_name(headers: Headers) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return values


def _scheme(name: str) -> Scheme:
    if name not in SCHEMES:
        raise _unsupported(name)
    return SCHEMES[name]


def _unsupported(algorithm: str) -> NotAuthenticated:
    known = sorted({scheme.algorithm for scheme in SCHEMES.values()})
    return _failed(f"the signing algorithm {algorithm} is not supported; use {', '.join(known)}")


def _claimed_scheme(algorithm: str, scope: str | None) -> Scheme:
    if all(scheme.algorithm != algorithm for scheme in SCHEMES.values()):
        raise _unsupported(algorithm)
    scheme = find_scheme(algorithm, has_scope=scope is not None)
    if scheme is None or (scheme.scope and not scheme.scope.fullmatch(scope or "")):
        raise _failed(
            f"{DERIVED_HMAC_SHA256.name} takes Credential=<access key>/<yyyymmdd>/<region>/<service>, the other "
            f"algorithms Access=<access key>, and {HMAC_SHA256.name} also Credential=<access key>/<yyyymmdd>/<region>/"
            "<service>/sdk_request"
        )
    return scheme


def _failed(reason: str) -> NotAuthenticated:
    return NotAuthenticated(f"verify aksk signature fail, {reason}")

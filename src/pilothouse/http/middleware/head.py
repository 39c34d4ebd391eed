"""What authentication reads of a request's head, and how large a head may be."""

from typing import Final
from urllib.parse import quote

from starlette.types import Scope

from pilothouse.errors import NotAuthenticated
from pilothouse.http import gateway_errors as errors
from pilothouse.http.gateway_errors import GatewayError

_LONGEST_URI: Final = 32 * 1024
_LONGEST_HEADER: Final = 32 * 1024
_ALL_HEADERS: Final = 128 * 1024
_BEARER: Final = "bearer "


def check_head(scope: Scope) -> None:
    """Refuse a request target over 32 KiB, a header line over 32 KiB, and header lines over 128 KiB together."""
    if len(raw_path(scope)) + 1 + len(scope["query_string"]) > _LONGEST_URI:
        raise GatewayError(errors.URI_TOO_LONG, f"the limit is {_LONGEST_URI} bytes")
    total = 0
    for name, value in scope["headers"]:
        length = len(name) + len(value)
        total += length
        if length > _LONGEST_HEADER:
            shown = name[:100].decode("latin-1")
            raise GatewayError(errors.HEADERS_TOO_LARGE, f"{shown} is over {_LONGEST_HEADER} bytes")
    if total > _ALL_HEADERS:
        raise GatewayError(errors.HEADERS_TOO_LARGE, f"all together are over {_ALL_HEADERS} bytes")


def token(scope: Scope) -> str | None:
    """Return the token, from its own header or as a bearer's; None without one.

    Raises NotAuthenticated for several: what proves the caller, and what its requests are counted by, must be the same.
    """
    values = _values(scope, b"x-auth-token")
    if len(values) > 1:
        raise NotAuthenticated(f"decrypt token fail, X-Auth-Token was sent {len(values)} times; send it once")
    if values and values[0]:  # an empty one is a client's unset variable, and no token
        return values[0]
    sent = _one_authorization(scope)
    return sent[len(_BEARER) :].strip() if is_bearer(sent) else None


def is_bearer(authorization: str) -> bool:
    """Return True for the header of a token, and not of a signature (RFC 6750)."""
    return authorization[: len(_BEARER)].lower() == _BEARER


def authorization(scope: Scope) -> str:
    """Return the header with the signature; NotAuthenticated unless there is exactly one."""
    if not _values(scope, b"authorization"):
        raise NotAuthenticated("x-auth-token not found")
    return _one_authorization(scope)


def is_form(scope: Scope) -> bool:
    """Return whether the body is a multipart form."""
    return any(text.lower().startswith("multipart/") for text in _values(scope, b"content-type"))


def project_id(scope: Scope) -> str | None:
    """Return the project that the request names; None if it names none. GatewayError if it names several."""
    values = _values(scope, b"x-project-id")
    if len(values) > 1:
        raise GatewayError(errors.BAD_REQUEST, f"X-Project-Id was sent {len(values)} times; send it once")
    return values[0] or None if values else None


def _one_authorization(scope: Scope) -> str:
    """Return the header; empty without one. NotAuthenticated for several."""
    values = _values(scope, b"authorization")
    if len(values) > 1:
        raise NotAuthenticated(f"verify aksk signature fail, Authorization was sent {len(values)} times; send it once")
    return values[0] if values else ""


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.strip().decode("latin-1") for key, value in scope["headers"] if key == name]


def raw_path(scope: Scope) -> bytes:
    """Return the path as it was sent."""
    raw: bytes | None = scope.get("raw_path")
    return raw if raw is not None else quote(scope["path"]).encode("ascii")

"""Request data that routes of both dialects need: the caller, our headers, and JSON answers."""

import hashlib
import re
from typing import TypeVar

import orjson
from fastapi import Request, Response

from pilothouse.errors import InvalidArgument
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.idempotency import Key

T = TypeVar("T")

_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(?P<seconds>[0-9]{1,9})"?\s*(?:[;,]|$)')
_LONGEST_WAIT = 60
_KEY = re.compile(r"[!-~]{1,255}")
#: Every header of ours says what is ordered. These two stand in a request's digest also when they are not given.
_OURS = "x-pilothouse-"
_FIRST_OURS = ("x-pilothouse-wait", "x-pilothouse-timeout")


def caller_of(request: Request) -> Caller:
    """Return the authenticated caller."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def request_id_of(request: Request) -> str:
    """Return the id in this request's X-Request-Id."""
    request_id: str = request.scope["state"]["request_id"]
    return request_id


def service_of(request: Request, kind: type[T]) -> T:
    """Return the application's service of that class."""
    found: T = request.app.state.services[kind]
    return found


def source_of(request: Request) -> str:
    """Return the client's address, as the gateway determined it."""
    source: str = request.scope["state"]["source"]
    return source


async def refuse_nul(request: Request) -> None:
    """Raise InvalidRequest for a NUL in path or query, which no id or name has and PostgreSQL rejects."""
    for name, value in [*request.path_params.items(), *request.query_params.multi_items()]:
        if "\x00" in str(value):
            raise InvalidArgument(f"{name}: contains a NUL character")


def wanted_wait(request: Request) -> int:
    """Return the seconds of ``Prefer: wait=N`` (RFC 7240, section 4.3), at most 60; 0 if absent or not a number.

    An unknown preference is ignored, as the RFC requires.
    """
    found = _WAIT.search(",".join(request.headers.getlist("prefer")).lower())
    return min(int(found["seconds"]), _LONGEST_WAIT) if found else 0


async def idempotency_key(request: Request) -> Key | None:
    """Return the Idempotency-Key header with the request's fingerprint: method, target, body, and our headers.

    Raises InvalidRequest for a key of other than 1 to 255 visible ASCII characters, or for more than one.
    """
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    if len(values) > 1:
        raise InvalidArgument(f"Idempotency-Key: was sent {len(values)} times; send it once")
    if not _KEY.fullmatch(values[0]):
        raise InvalidArgument(
            "Idempotency-Key: must be 1 to 255 visible ASCII characters without spaces, such as a UUID, and is "
            f"{len(values[0])} characters: {values[0][:40]!r}"
        )
    parts = [
        request.method,
        request.scope["path"],
        request.scope["query_string"].decode("latin-1"),
        *(request.headers.get(name, "") for name in _FIRST_OURS),
        hashlib.sha256(await request.body()).hexdigest(),
        *sorted(f"{name}: {value}" for name, value in request.headers.items() if _is_further(name)),
    ]
    return Key(values[0], hashlib.sha256(orjson.dumps(parts)).hexdigest())


def _is_further(name: str) -> bool:
    return name.startswith(_OURS) and name not in _FIRST_OURS


def json_response(content: object, *, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer, exactly as given."""
    return Response(orjson.dumps(content), status_code=status_code, media_type="application/json", headers=headers)

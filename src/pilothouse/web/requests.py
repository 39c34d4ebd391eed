"""What every route of either dialect needs of its request: the caller, the JSON body, and a way to answer JSON."""

import hashlib
import re
from datetime import datetime
from typing import Any, TypeVar

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

from pilothouse.errors import InvalidRequest, UnsupportedContentType
from pilothouse.services.idempotency import Key
from pilothouse.services.identity import Caller

_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(?P<seconds>[0-9]{1,9})"?\s*(?:[;,]|$)')
_LONGEST_WAIT = 60
_KEY = re.compile(r"[!-~]{1,255}")
#: Headers that change what is ordered.
_SAYS_WHAT = ("x-pilothouse-wait", "x-pilothouse-timeout")

Model = TypeVar("Model", bound=BaseModel)

#: The page lists these three; the last one's body is read as JSON like the others.
_JSON_TYPES = frozenset({"application/json", "application/x-pem-file"})
#: Deeper JSON is an attack on what walks through it: orjson writes 254 levels, the interpreter recurses 1000.
_LEVELS = 100


def caller_of(request: Request) -> Caller:
    """The caller whom the gateway verified."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def request_id_of(request: Request) -> str:
    """The id that this request's answer carries in X-Request-Id."""
    request_id: str = request.scope["state"]["request_id"]
    return request_id


def source_of(request: Request) -> str:
    """The address that the request comes from, as the gateway found it."""
    source: str = request.scope["state"]["source"]
    return source


async def refuse_nul(request: Request) -> None:
    """Raises InvalidRequest for a NUL in the path or the query, which no id or name has and PostgreSQL cannot take."""
    for name, value in [*request.path_params.items(), *request.query_params.multi_items()]:
        if "\x00" in str(value):
            raise InvalidRequest(f"{name}: contains a NUL character")


async def read_json(request: Request, model: type[Model], *, default: Model | None = None) -> Model:
    """The body as that model, or the default if there is none; InvalidRequest names the first field that is wrong."""
    for given in request.headers.getlist("content-type"):
        content_type = given.split(";")[0].strip().lower()
        if content_type not in _JSON_TYPES:
            raise UnsupportedContentType(f"Content-Type: {content_type!r} is not supported here; send application/json")
    body = await request.body()
    if not body.strip() and default is not None:
        return default
    if not body.strip():
        raise InvalidRequest("the request has no body; send a JSON object")
    return parse_json(body, model, where="body")


def parse_json(text: bytes | str, model: type[Model], *, where: str) -> Model:
    """The JSON text as that model; ``where`` names the text in errors."""
    data = parse_object(text, where=where)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidRequest(_explain(error)) from error


def parse_object(text: bytes | str, *, where: str) -> dict[str, Any]:
    """Return the JSON object that the text is; raise InvalidRequest, which names the text by ``where``, for another."""
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{where}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidRequest(f"{where}: must be a JSON object, and is {_kind(data)}")
    path = find_nul(data)
    if path is not None:
        raise InvalidRequest(f"{path or where}: contains a NUL character, which Kubernetes and Helm cannot store")
    return data


def find_nul(value: object, path: str = "", *, level: int = 0) -> str | None:
    """Where in the data a NUL character stands: the C interface of the engine would cut the text there.

    Raises InvalidRequest for data of too many levels.
    """
    if level > _LEVELS:
        raise InvalidRequest(f"{re.split(r'[.[]', path)[0]}: nested in more than {_LEVELS} levels, the limit")
    if isinstance(value, str):
        return path if "\x00" in value else None
    if isinstance(value, dict):
        for key, below in value.items():
            found = path if "\x00" in key else find_nul(below, f"{path}.{key}" if path else key, level=level + 1)
            if found is not None:
                return found
    if isinstance(value, list):
        for index, below in enumerate(value):
            found = find_nul(below, f"{path}[{index}]", level=level + 1)
            if found is not None:
                return found
    return None


def wanted_wait(request: Request) -> int:
    """The seconds of ``Prefer: wait=N`` (RFC 7240, section 4.3), at most 60; 0 without one, or for what is no number.

    A preference that is not understood is ignored, as the RFC has it.
    """
    found = _WAIT.search(",".join(request.headers.getlist("prefer")).lower())
    return min(int(found["seconds"]), _LONGEST_WAIT) if found else 0


async def idempotency_key(request: Request) -> Key | None:
    """The header Idempotency-Key, with what tells this request from others: method, target, body, and our headers.

    Raises InvalidRequest for a key of other than 1 to 255 visible ASCII characters, or for more than one.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1:
        raise InvalidRequest(f"Idempotency-Key: is there {len(given)} times; send it once")
    if not _KEY.fullmatch(given[0]):
        raise InvalidRequest(
            "Idempotency-Key: must be 1 to 255 visible ASCII characters without spaces, such as a UUID, and is "
            f"{len(given[0])} characters: {given[0][:40]!r}"
        )
    parts = [
        request.method,
        request.scope["path"],
        request.scope["query_string"].decode("latin-1"),
        *(request.headers.get(name, "") for name in _SAYS_WHAT),
        hashlib.sha256(await request.body()).hexdigest(),
    ]
    return Key(given[0], hashlib.sha256(orjson.dumps(parts)).hexdigest())


def parse_time(name: str, text: str | None) -> datetime | None:
    """A time with its zone, None for none; InvalidRequest names the field."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidRequest(f"{name}: {text[:100]!r} is not a time with a zone, such as 2026-01-31T12:00:00Z")
    return moment


def json_response(content: object, *, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer, exactly as given."""
    return Response(orjson.dumps(content), status_code=status_code, media_type="application/json", headers=headers)


_WANTED = {
    "missing": "missing",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    text = _WANTED.get(first["type"], first["msg"])
    if first["type"] in {"missing", "string_too_short"}:
        return f"{field}: {text}"
    return f"{field}: {text}, and is {_kind(first['input'])}"


def _kind(value: Any) -> str:
    kinds = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "null")

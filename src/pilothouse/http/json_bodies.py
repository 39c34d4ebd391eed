"""JSON bodies at bounded cost: limits of size, number of values, and nesting.

The cost of a body is checked before anything is built from it, and slow work is done off the event loop. An error names
only the first violation: there may be hundreds of thousands.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import orjson
from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from pilothouse.errors import BodyTooLarge, InvalidArgument, UnsupportedContentType

Model = TypeVar("Model", bound=BaseModel)

#: The page lists these three; the last one's body is read as JSON like the others.
_JSON_TYPES: Final = frozenset({"application/json", "application/x-pem-file"})
_BESIDE_THE_LOOP: Final = 32 * 1024
#: What ends or begins a string, or tells that a further value follows. One step is never long: others get their turn.
_MARK: Final = re.compile(rb'\\.|["\[{,]', re.DOTALL)
#: An integer of as many digits may not fit in 64 bits. No expression: it would hold the interpreter for 0.1 s.
_LONG_NUMBER: Final = b"0" * 19
_DIGITS_AS_ZEROS: Final = bytes(ord("0") if chr(code).isdecimal() else ord(" ") for code in range(128)) + b" " * 128
_QUOTE, _BACKSLASH = b'"\\'
_LONGEST_ECHO: Final = 100


@dataclass(frozen=True)
class JsonLimits:
    """Limits of a body: bytes as sent, values at any depth, nesting of objects and arrays."""

    size: int
    values: int
    levels: int


#: Log-in bodies come from unauthenticated clients.
LOGIN: Final = JsonLimits(size=16 * 1024, values=200, levels=10)
#: What has a few short fields.
FORM: Final = JsonLimits(size=64 * 1024, values=1_000, levels=10)
#: A kubeconfig is one text, with certificates in it.
KUBECONFIG: Final = JsonLimits(size=1024 * 1024, values=200, levels=10)
#: Values: the largest known have 5,000. orjson writes 254 levels, and the interpreter recurses 1,000.
RELEASE: Final = JsonLimits(size=4 * 1024 * 1024, values=50_000, levels=100)


async def read_json(
    request: Request,
    model: type[Model],
    *,
    limits: JsonLimits = FORM,
    types: frozenset[str] = _JSON_TYPES,
    default: Model | None = None,
) -> Model:
    """Return the body as that model, or the default if there is none; InvalidRequest names the first wrong field.

    Also raises UnsupportedContentType and BodyTooLarge. Check the caller's permission before.
    """
    for header in request.headers.getlist("content-type"):
        content_type = header.split(";")[0].strip().lower()
        if content_type not in types:
            raise UnsupportedContentType(f"Content-Type: {content_type!r} is not supported here; send application/json")
    body = await request.body()
    if not body.strip():
        if default is not None:
            return default
        raise InvalidArgument("the request has no body; send a JSON object")
    if len(body) > _BESIDE_THE_LOOP:
        return await asyncio.to_thread(parse_json, body, model, where="body", limits=limits)
    return parse_json(body, model, where="body", limits=limits)


async def read_field(request: Request, name: str) -> object:
    """Return a field of the body, whatever its type and the other fields; None if it is absent."""
    return ((await read_json(request, _AnyObject)).model_extra or {}).get(name)


class _AnyObject(BaseModel):
    model_config = ConfigDict(extra="allow")


def parse_json(text: bytes | str, model: type[Model], *, where: str, limits: JsonLimits = FORM) -> Model:
    """Return the JSON text as that model; ``where`` names the text in errors."""
    data = parse_object(text, where=where, limits=limits)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidArgument(explain(error.errors(include_url=False)[0])) from error


def parse_object(text: bytes | str, *, where: str, limits: JsonLimits = RELEASE) -> dict[str, Any]:
    """Return the JSON object in the text; InvalidRequest, which names the text by ``where``, for anything else.

    Also raises BodyTooLarge.
    """
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if len(data) > limits.size:
        raise BodyTooLarge(f"{where}: {len(data)} bytes; the limit is {limits.size}")
    if not _holds_at_most(data, limits.values):
        raise InvalidArgument(f"{where}: holds more than {limits.values} values, the limit")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"{where}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where}: must be a JSON object, not {_kind(value)}")
    path = find_nul(value, levels=limits.levels)
    if path is not None:
        raise InvalidArgument(f"{path or where}: contains a NUL character, which Kubernetes and Helm cannot store")
    if _LONG_NUMBER in data.translate(_DIGITS_AS_ZEROS):
        _refuse_changed_integers(value, msgspec.json.decode(data))
    return value


def _refuse_changed_integers(value: object, exact: object, path: str = "") -> None:
    """Raise InvalidRequest for an integer that orjson turned into a float: over 64 bits, which Helm rounds too.

    ``exact`` is the same text, read with integers of any size.
    """
    if isinstance(exact, dict) and isinstance(value, dict):
        for key, inner in exact.items():
            _refuse_changed_integers(value[key], inner, f"{path}.{key}" if path else key)
    elif isinstance(exact, list) and isinstance(value, list):
        for index, inner in enumerate(exact):
            _refuse_changed_integers(value[index], inner, f"{path}[{index}]")
    elif isinstance(exact, int) and isinstance(value, float):
        raise InvalidArgument(
            f"{path}: {str(exact)[:40]} does not fit in 64 bits, and would be rounded; send it as a string"
        )


def find_nul(value: object, path: str = "", *, levels: int = RELEASE.levels, level: int = 0) -> str | None:
    """Return where the data contains a NUL character, at which the engine's C interface would cut the text.

    Raises InvalidRequest for data of too many levels.
    """
    if level > levels:
        field = re.split(r"[.[]", path, maxsplit=1)[0]
        raise InvalidArgument(f"{field}: nested in more than {levels} levels, the limit")
    if isinstance(value, str):
        return path if "\x00" in value else None
    if isinstance(value, dict):
        for key, below in value.items():
            inner = f"{path}.{key}" if path else key
            found = path if "\x00" in key else find_nul(below, inner, levels=levels, level=level + 1)
            if found is not None:
                return found
    if isinstance(value, list):
        for index, below in enumerate(value):
            found = find_nul(below, f"{path}[{index}]", levels=levels, level=level + 1)
            if found is not None:
                return found
    return None


def _holds_at_most(text: bytes, values: int) -> bool:
    """Return False if the text, which need not be JSON, has more values; builds none of them.

    Commas and opening brackets outside of strings are counted: an empty object or array counts as two.
    """
    if sum(map(text.count, (b",", b"[", b"{"))) < values:  # those in strings included
        return True
    marks, in_string = 0, False
    for found in _MARK.finditer(text):
        kind = text[found.start()]
        if kind == _QUOTE:
            in_string = not in_string
        elif kind != _BACKSLASH and not in_string:
            marks += 1
            if marks >= values:
                return False
    return True


#: The type of an error whose message names a field that the model does not have.
UNKNOWN_FIELD: Final = "unknown_field"
_WANTED: Final = {
    "missing": "missing",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def explain(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a body, without a value: that may be a secret."""
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == UNKNOWN_FIELD:
        return f"{field}{'.' if field else ''}{error['msg']}"
    if error["type"] in {"missing", "string_too_short"}:
        return f"{field}: {_WANTED[error['type']]}"
    return f"{field}: {_text(error)}, and is {_kind(error['input'])}"


def explain_parameter(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a parameter of the query, the path or a header, and its value."""
    return f"{error['loc'][-1]}: {_text(error)}, and is {repr(error['input'])[:_LONGEST_ECHO]}"


def _text(error: Mapping[str, Any]) -> str:
    known = _WANTED.get(error["type"])
    return known.format(**error.get("ctx", {})) if known else str(error["msg"])


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

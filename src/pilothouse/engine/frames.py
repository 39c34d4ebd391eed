"""Frames between parent and child of the engine.

A frame is one JSON object plus at most one run of raw bytes (the chart archive), both length-prefixed. Nothing is
pickled: a child compromised by a malicious chart can send wrong data, but no code.
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from pilothouse.engine.request import Body, OutcomeT, Request
from pilothouse.errors import HelmError

HEADER = struct.Struct("!II")
HEAD_LIMIT = 64 * 1024 * 1024
BODY_LIMIT = 256 * 1024 * 1024


def pack_frame(head: Mapping[str, Any], body_size: int = 0) -> bytes:
    """Return the bytes before a body on the channel: both lengths and the head.

    Raises ValueError for what JSON cannot represent (NaN, infinity) and RecursionError for extreme nesting.
    """
    encoded = json.dumps(head, allow_nan=False, separators=(",", ":"), default=vars).encode()
    return HEADER.pack(len(encoded), body_size) + encoded


def parse_head(head: bytes) -> dict[str, Any]:
    """Return the JSON object of a frame; raise ValueError or TypeError if it is not one."""
    decoded = json.loads(head)
    if not isinstance(decoded, dict):
        raise TypeError("a frame's head is not an object")
    return decoded


def encode_request(request: Request[Any], **extra: Any) -> tuple[bytes, Body]:
    """Return the frame prefix and raw body of a request, both safe to pass on.

    Raises HelmError for what Helm would silently truncate or misread: NUL in any string, numbers that JSON does not
    have, nesting beyond any real document. ``extra`` are further keys of the head.
    """
    plain: dict[str, Any] = {}
    body: Body = b""
    for each in fields(request):
        value = getattr(request, each.name)
        if _is_body(each):
            body = value
        else:
            plain[each.name] = value
    size = len(body) if isinstance(body, bytes) else body.seek(0, os.SEEK_END)
    try:
        prefix = pack_frame({"action": request.action, **extra, "request": plain}, size)
        # JSON escapes NUL, so most requests need no walk; an escaped backslash in front is what makes it necessary
        if b"\\u0000" in prefix:
            _refuse_nul(plain, "")
    except RecursionError:
        raise HelmError("the values are nested too deeply", kind="HelmValuesError") from None
    except (ValueError, TypeError) as error:
        raise HelmError(f"the values are not JSON: {error}", kind="HelmValuesError") from None
    if len(prefix) > HEAD_LIMIT or size > BODY_LIMIT:
        raise HelmError("the chart or its values are too large for the engine", kind="HelmInvalidArgError")
    return prefix, body


def decode_outcome(request: Request[OutcomeT], answer: Any) -> OutcomeT:
    """Return the child's answer as the request's outcome; raise TypeError if it has another shape."""
    cls: type[OutcomeT] = request.outcome_type
    if is_dataclass(cls):
        return cls(**answer)
    if not isinstance(answer, cls):
        raise TypeError(f"{request.action} answered {type(answer).__name__}")
    return answer


def _is_body(each: Field[Any]) -> bool:
    return each.type in (bytes, Body)


def _refuse_nul(value: Any, where: str) -> None:
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, str):
        if "\0" in value:
            raise HelmError(f"{where or 'the request'} holds a NUL character", kind="HelmInvalidArgError")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and "\0" in key:
                raise HelmError(f"a key of {where or 'the request'} holds a NUL character", kind="HelmInvalidArgError")
            _refuse_nul(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_nul(item, f"{where}[{index}]")

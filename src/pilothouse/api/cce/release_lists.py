"""Lists of releases on the wire: complete and streamed, or in parts when the client asks for that.

The vendor's API has no paging. ``limit``, ``marker`` and ``fields`` are ours: without them the answer is one complete
array. Where a part ends, ``X-Pilothouse-Marker`` tells the marker of the next one.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from pilothouse.api.cce.models import RELEASE_FIELDS, ReleaseForm
from pilothouse.errors import InvalidRequest
from pilothouse.http.requests import json_response
from pilothouse.services.releases.read import ReleaseList, ReleasePage

_MOST = 1000
_LONGEST_NAME = 253
_MARKER = "X-Pilothouse-Marker"
_AGE = "X-Pilothouse-Age"


@dataclass(frozen=True)
class WantedList:
    """Which part of a list, and which members of each release; ``limit`` None: everything."""

    limit: int | None
    after: tuple[str, str]
    fields: frozenset[str]


def wanted_list(request: Request) -> WantedList:
    """What the query asks for; InvalidRequest names the parameter that is wrong."""
    query = request.query_params
    limit = query.get("limit", "")
    if limit and (not re.fullmatch(r"[0-9]{1,4}", limit, re.ASCII) or not 1 <= int(limit) <= _MOST):
        raise InvalidRequest(f"limit: {limit!r} is not a number from 1 to {_MOST}")
    namespace, slash, name = query.get("marker", "").partition("/")
    if query.get("marker") and not (slash and _is_name(namespace) and _is_name(name)):
        raise InvalidRequest(f"marker: {query['marker']!r} is not one that an answer gave in {_MARKER}")
    fields = frozenset(field for field in query.get("fields", "").split(",") if field)
    for field in fields - RELEASE_FIELDS:
        raise InvalidRequest(
            f"fields: {field!r} is no member of a release; there are: {', '.join(sorted(RELEASE_FIELDS))}"
        )
    return WantedList(int(limit) if limit else None, (namespace, name), fields or RELEASE_FIELDS)


def _is_name(text: str) -> bool:
    """Return True for what PostgreSQL can compare with a name; whoever wrote the Secrets chose those."""
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable()


async def list_response(found: ReleaseList, wanted: WantedList, *, form: ReleaseForm) -> Response:
    """The part that was asked for, or all of it: at once if it is little, else streamed as it is read."""
    headers = age_header(found.age_seconds)
    if wanted.limit is not None:
        page = await found.read_page(wanted.after, limit=wanted.limit)
        if page.last is not None:
            headers[_MARKER] = "/".join(page.last)
        return json_response(_rows(page, wanted, form), headers=headers)
    # What fails before the first byte can still be answered with an error.
    text, last = await _next(found, wanted.after, wanted, form)
    if last is None:
        return Response(text, media_type="application/json", headers=headers)
    return StreamingResponse(_stream(found, text, last, wanted, form), media_type="application/json", headers=headers)


def age_header(seconds: float | None) -> dict[str, str]:
    """How many seconds ago the cluster last confirmed what is shown; nothing for what was just read from it."""
    return {} if seconds is None else {_AGE: str(max(0, round(seconds)))}


async def _stream(
    found: ReleaseList, text: bytes, last: tuple[str, str] | None, wanted: WantedList, form: ReleaseForm
) -> AsyncIterator[bytes]:
    """One JSON array; a failure in the middle breaks the connection, so that nobody takes a part for all.

    While a client reads slowly, only the text of one page is kept.
    """
    separator = b"["
    while True:
        if rows := text[1:-1]:
            yield separator + rows
            separator = b","
        if last is None:
            yield b"]" if separator == b"," else b"[]"
            return
        text, last = await _next(found, last, wanted, form)


async def _next(
    found: ReleaseList, after: tuple[str, str], wanted: WantedList, form: ReleaseForm
) -> tuple[bytes, tuple[str, str] | None]:
    page = await found.read_page(after)
    return orjson.dumps(_rows(page, wanted, form)), page.last


def _rows(page: ReleasePage, wanted: WantedList, form: ReleaseForm) -> list[dict[str, object]]:
    rows = [form.resp(release) for release in page.releases]
    if wanted.fields == RELEASE_FIELDS:
        return rows
    return [{name: value for name, value in row.items() if name in wanted.fields} for row in rows]

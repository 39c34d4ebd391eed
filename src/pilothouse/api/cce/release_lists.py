"""Lists of releases in the vendor's API: complete and streamed, or paged on request.

The vendor's API has no paging. ``limit``, ``marker`` and ``fields`` are our extensions: without them the answer is one
complete array. ``X-Pilothouse-Marker`` has the marker of the next page.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson
from fastapi import Request, Response

from pilothouse.api.cce.models import RELEASE_FIELDS, ReleaseSerializer
from pilothouse.errors import InvalidRequest
from pilothouse.http.json_arrays import ArrayPart, array_response
from pilothouse.off_loop import off_loop
from pilothouse.services.releases.pages import HistoryPage, HistoryRest, Release, ReleaseList

_MOST = 1000
_LONGEST_NAME = 253
_MARKER = "X-Pilothouse-Marker"
_AGE = "X-Pilothouse-Age"


@dataclass(frozen=True)
class ListQuery:
    """The requested page of a list, and the members of each release; ``limit`` None: everything."""

    limit: int | None
    after: tuple[str, str]
    fields: frozenset[str]


def read_list_query(request: Request) -> ListQuery:
    """Return the request from the query; InvalidRequest names the wrong parameter."""
    query = request.query_params
    limit = query.get("limit", "")
    if limit and (not re.fullmatch(r"[0-9]{1,4}", limit, re.ASCII) or not 1 <= int(limit) <= _MOST):
        raise InvalidRequest(f"limit: {limit!r} is not a number from 1 to {_MOST}")
    namespace, slash, name = query.get("marker", "").partition("/")
    if query.get("marker") and not (slash and _is_name(namespace) and _is_name(name)):
        raise InvalidRequest(f"marker: {query['marker']!r} is not a value of {_MARKER}")
    fields = frozenset(field for field in query.get("fields", "").split(",") if field)
    for field in fields - RELEASE_FIELDS:
        raise InvalidRequest(
            f"fields: {field!r} is not a field of a release; fields: {', '.join(sorted(RELEASE_FIELDS))}"
        )
    return ListQuery(int(limit) if limit else None, (namespace, name), fields or RELEASE_FIELDS)


def _is_name(text: str) -> bool:
    """Return True for what PostgreSQL can compare with a name; whoever wrote the Secrets chose those."""
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable()


async def list_response(found: ReleaseList, query: ListQuery, *, form: ReleaseSerializer) -> Response:
    """Return the requested page, or everything: at once if small, else streamed as it is read."""
    headers = age_header(found.age_seconds)
    if query.limit is not None:
        page = await found.read_page(query.after, limit=query.limit)
        if page.last is not None:
            headers[_MARKER] = "/".join(page.last)
        text = await releases_text(page.releases, form, fields=query.fields)
        return Response(text, media_type="application/json", headers=headers)

    async def read(after: tuple[str, str]) -> ArrayPart[tuple[str, str]]:
        page = await found.read_page(after)
        return ArrayPart(await releases_text(page.releases, form, fields=query.fields), page.last)

    return array_response(await read(query.after), read, headers=headers)


async def history_response(
    first: HistoryPage, read: Callable[[HistoryRest], Awaitable[HistoryPage]], *, form: ReleaseSerializer
) -> Response:
    """Return the revisions: at once if small, else streamed as they are read."""

    async def part(page: HistoryPage) -> ArrayPart[HistoryRest]:
        return ArrayPart(await releases_text(page.releases, form), page.rest)

    async def read_part(rest: HistoryRest) -> ArrayPart[HistoryRest]:
        return await part(await read(rest))

    return array_response(await part(first), read_part, headers=age_header(first.releases[0].age_seconds))


def age_header(seconds: float | None) -> dict[str, str]:
    """Return how many seconds ago the cluster last confirmed the data; no header for data just read from it."""
    return {} if seconds is None else {_AGE: str(max(0, round(seconds)))}


async def release_response(
    release: Release, form: ReleaseSerializer, *, status_code: int = 200, headers: dict[str, str]
) -> Response:
    """Return the release as an answer."""
    text = (await releases_text([release], form))[1:-1]
    return Response(text, status_code=status_code, media_type="application/json", headers=headers)


async def releases_text(
    releases: list[Release], form: ReleaseSerializer, *, fields: frozenset[str] = RELEASE_FIELDS
) -> bytes:
    """Return the releases as a JSON array; off the event loop if they are large."""
    size = sum(len(release.values_json or "") + len(release.resources_json) for release in releases)
    return await off_loop(
        lambda: orjson.dumps([_row(form.to_wire(release), fields) for release in releases]), size=size
    )


def _row(row: dict[str, object], fields: frozenset[str]) -> dict[str, object]:
    return row if fields == RELEASE_FIELDS else {name: value for name, value in row.items() if name in fields}

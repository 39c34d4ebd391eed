"""Lists of releases over all clusters of a project."""

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, Query, Response
from pydantic import TypeAdapter

from pilothouse.api.v1.dependencies import CurrentCaller, service
from pilothouse.api.v1.models import GOES_ON, MARKER, PAGED, Limit, OptionalBlank, Time
from pilothouse.api.v1.release_models import ReleaseSummary
from pilothouse.api.v1.routing import native_router
from pilothouse.errors import InvalidRequest
from pilothouse.services.releases.project_list import ProjectReleases
from pilothouse.states import ReleaseStatus
from pilothouse.store.release_lists import MANAGERS, SORTS, ReleaseFilter, ReleaseItem, ReleaseSort

TOTALS: Final = "X-Pilothouse-Totals"
INCOMPLETE: Final = "X-Pilothouse-Incomplete"
_LONGEST: Final = 253
_STATUSES: Final = frozenset(map(str, ReleaseStatus))
_NAMED_CLUSTERS: Final = 20
_ALWAYS: Final = ("cluster_id", "cluster_name", "namespace", "name")
_TEXT: Final = {"type": "string"}
_HEADERS: Final = {
    **PAGED[200]["headers"],
    TOTALS: {"description": "with `totals`: `deployed=90, failed=2`", "schema": _TEXT},
    INCOMPLETE: {
        "description": "names of clusters whose releases are not all known (yet); see their `index`",
        "schema": _TEXT,
    },
}

router = native_router("/api/v1/releases", tag="releases")
_items = TypeAdapter(list[ReleaseSummary])


def _filter(
    *,
    cluster: Annotated[str, Query(max_length=128, description="only of the cluster of this id or name")] = "",
    namespace: Annotated[str, Query(max_length=63, description="only of this namespace")] = "",
    name: Annotated[str, Query(max_length=63, description="only with this in their name")] = "",
    chart: Annotated[str, Query(max_length=_LONGEST, description="only of this chart: `name`, or `name-version`")] = "",
    status: Annotated[str, Query(description="only in one of these, comma-separated: `failed,pending-upgrade`")] = "",
    manager: Annotated[str, Query(description=f"only managed by: {', '.join(f'`{one}`' for one in MANAGERS)}")] = "",
    changed_since: Annotated[
        Time | None, Query(description="only if `updated_at` is at this time or later"), OptionalBlank
    ] = None,
) -> ReleaseFilter:
    return ReleaseFilter(
        cluster=cluster,
        namespace=namespace,
        name=name,
        chart=chart,
        manager=_known("manager", manager, MANAGERS) if manager else "",
        statuses=tuple(_known("status", one, ReleaseStatus) for one in _words(status)),
        changed_since=changed_since,
    )


@router.get("", response_model=list[ReleaseSummary], responses={200: {"headers": _HEADERS}})
async def list_releases(
    *,
    caller: CurrentCaller,
    releases: Annotated[ProjectReleases, service(ProjectReleases)],
    wanted: Annotated[ReleaseFilter, Depends(_filter)],
    sort: Annotated[
        str, Query(description=f"{', '.join(f'`{one}`' for one in SORTS)}; with `-` before it in reverse")
    ] = "cluster",
    fields: Annotated[str, Query(description="only these, and cluster, namespace, name; comma-separated")] = "",
    totals: Annotated[bool, Query(description=f"count the releases by status, in {TOTALS}")] = False,
    limit: Limit = 100,
    marker: Annotated[str, Query(description=GOES_ON)] = "",
) -> Response:
    """List the releases of all clusters of the project, from the index.

    The totals count all releases that the filters allow, whatever their status. A marker belongs to its filters and its
    order. How current the answer is: `age_seconds` of each release.
    """
    by = _known("sort", sort.removeprefix("-") or "cluster", SORTS)
    order = ReleaseSort(by, descending=sort.startswith("-"))
    shown = [_known("fields", one, ReleaseSummary.model_fields) for one in _words(fields)]
    list_digest = _digest(wanted, order)
    if marker:
        order = replace(order, after=_read_marker(marker, order, list_digest))
    page = await releases.list_releases(caller, wanted, sort=order, limit=limit, totals=totals)
    headers = {}
    if page.next is not None:
        headers[MARKER] = _marker(page.next, list_digest)
    if page.totals is not None:
        headers[TOTALS] = as_header(page.totals)
    if page.incomplete:
        headers[INCOMPLETE] = ", ".join(page.incomplete[:_NAMED_CLUSTERS])
    return Response(_text(page.releases, shown), media_type="application/json", headers=headers)


def as_header(totals: Mapping[str, int]) -> str:
    """Return how many releases have each status; words that are not Helm's count as unknown.

    The status in a release's Secret is free text, which a header may not be able to hold.
    """
    counted: Counter[str] = Counter()
    for status, count in totals.items():
        counted[status if status in _STATUSES else ReleaseStatus.UNKNOWN.value] += count
    return ", ".join(f"{one}={count}" for one, count in counted.items())


def _text(items: list[ReleaseItem], shown: list[str]) -> bytes:
    views = _items.validate_python(items, from_attributes=True)
    return _items.dump_json(views, include={"__all__": {*_ALWAYS, *shown}} if shown else None)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _known(parameter: str, word: str, known: Iterable[str]) -> str:
    """Return the word if it is known, else raise InvalidRequest with the nearest known one, or all."""
    words = [str(one) for one in known]
    if word in words:
        return word
    near = get_close_matches(word[:_LONGEST], words, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(words)}"
    raise InvalidRequest(f"{parameter}: {word[:100]!r} is unknown; {hint}")


def _digest(wanted: ReleaseFilter, sort: ReleaseSort) -> str:
    """Return what a marker is bound to: the filters and the order of its list."""
    said = [asdict(wanted), sort.by, sort.descending]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _marker(place: tuple[Any, ...], list_digest: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([list_digest, *place])).decode()


def _read_marker(marker: str, sort: ReleaseSort, list_digest: str) -> tuple[Any, ...]:
    refused = InvalidRequest(f"marker: {marker[:100]!r} is not a value of {MARKER}")
    try:
        digest, *place = orjson.loads(base64.b64decode(marker, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise refused from None
    if digest != list_digest:
        raise InvalidRequest("marker: it belongs to a list with other filters or another order; begin without a marker")
    try:
        values = dict(zip(sort.columns, place, strict=True))
        if "updated_at" in values:
            values["updated_at"] = datetime.fromisoformat(values["updated_at"])
    except (ValueError, TypeError):
        raise refused from None
    if not all(_is_comparable(value) for value in values.values()):
        raise refused
    return tuple(values.values())


def _is_comparable(value: Any) -> bool:
    """Return True for what PostgreSQL can compare with a column: the digest is no secret, so anybody can write one."""
    if isinstance(value, datetime):
        return value.tzinfo is not None and value.year in range(1970, 9999)
    return isinstance(value, str) and "\0" not in value

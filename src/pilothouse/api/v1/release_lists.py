"""Lists of releases over all clusters of a project."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, Header, Query, Response

from pilothouse.api.v1.dependencies import CurrentCaller, service
from pilothouse.api.v1.models import GOES_ON, PAGED, OptionalBlank, Time
from pilothouse.api.v1.release_models import ReleaseSummary, rounded_age
from pilothouse.api.v1.routing import native_router
from pilothouse.http.release_queries import MARKER, known, list_digest, read_marker, words, write_marker
from pilothouse.services.releases.project_list import ProjectReleases
from pilothouse.states import ReleaseStatus
from pilothouse.store.release_lists import MANAGERS, SORTS, ReleaseFilter, ReleaseSort

TOTALS: Final = "X-Pilothouse-Totals"
INCOMPLETE: Final = "X-Pilothouse-Incomplete"
_LONGEST: Final = 253
_MOST: Final = 1_000
_STATUSES: Final = frozenset(map(str, ReleaseStatus))
_NAMED_CLUSTERS: Final = 20
_TIMES: Final = frozenset({"updated_at", "uninstalled_at", "source_removed_at"})
_ALWAYS: Final = ("cluster_id", "cluster_name", "namespace", "name")
_JSON: Final = "application/json"
#: As Kubernetes' API server has it for kubectl: column names once, and each release as an array.
TABLE: Final = "application/json;as=Table"
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


def _filter(
    *,
    cluster: Annotated[str, Query(max_length=128, description="only of the cluster of this id or name")] = "",
    namespace: Annotated[str, Query(max_length=63, description="only of this namespace")] = "",
    name: Annotated[str, Query(max_length=63, description="only with this in their name")] = "",
    chart: Annotated[str, Query(max_length=_LONGEST, description="only of this chart: `name`, or `name-version`")] = "",
    status: Annotated[str, Query(description="only in one of these, comma-separated: `failed,pending-upgrade`")] = "",
    manager: Annotated[str, Query(description=f"only managed by: {', '.join(f'`{word}`' for word in MANAGERS)}")] = "",
    changed_since: Annotated[
        Time | None,
        Query(description="only if `updated_at` or `uninstalled_at` is at this time or later"),
        OptionalBlank,
    ] = None,
    drifted: Annotated[
        bool | None,
        Query(description="only with, or without, drift by the last look"),
        OptionalBlank,
    ] = None,
    source: Annotated[str, Query(max_length=63, description="only if their chart is of the source of this name")] = "",
    update_available: Annotated[
        bool | None,
        Query(description="only if the source of their chart has, or has not, a newer version"),
        OptionalBlank,
    ] = None,
    update_unknown: Annotated[
        bool,
        Query(
            description="only if no newer version is offered, and there may be one: the source was removed or fails, "
            "or has one that was refused or was not looked at yet"
        ),
    ] = False,
) -> ReleaseFilter:
    return ReleaseFilter(
        cluster=cluster,
        namespace=namespace,
        name=name,
        chart=chart,
        manager=known("manager", manager, MANAGERS) if manager else "",
        statuses=tuple(known("status", word, ReleaseStatus) for word in words(status)),
        drifted=drifted,
        update_available=update_available,
        update_unknown=update_unknown,
        source=source,
        changed_since=changed_since,
    )


_TABLE_SCHEMA: Final = {
    "type": "object",
    "required": ["columns", "rows"],
    "properties": {
        "columns": {"type": "array", "items": _TEXT},
        "rows": {"type": "array", "items": {"type": "array", "items": {}}},
    },
}


@router.get(
    "",
    response_model=list[ReleaseSummary],
    responses={200: {"headers": _HEADERS, "content": {TABLE: {"schema": _TABLE_SCHEMA}}}},
)
async def list_releases(
    *,
    caller: CurrentCaller,
    releases: Annotated[ProjectReleases, service(ProjectReleases)],
    filters: Annotated[ReleaseFilter, Depends(_filter)],
    sort: Annotated[
        str, Query(description=f"{', '.join(f'`{word}`' for word in SORTS)}; with `-` before it in reverse")
    ] = "cluster",
    fields: Annotated[str, Query(description="only these, and cluster, namespace, name; comma-separated")] = "",
    totals: Annotated[bool, Query(description=f"count the releases by status, in {TOTALS}")] = False,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="the most that one answer holds"), OptionalBlank] = 100,
    marker: Annotated[str, Query(description=GOES_ON)] = "",
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """List the releases of all clusters of the project, from the index.

    With `Accept: application/json;as=Table` as a table: the fields' names once, in `columns`, and in `rows` an array of
    values for each release, in that order. That is half as long, and sooner made and read.

    The totals count all releases that the filters allow, whatever their status. A marker belongs to its filters and its
    order. How current the answer is: `age_seconds` of each release.
    """
    by = known("sort", sort.removeprefix("-") or "cluster", SORTS)
    order = ReleaseSort(by, descending=sort.startswith("-"))
    shown = [known("fields", word, ReleaseSummary.model_fields) for word in words(fields)]
    digest = list_digest(filters, order)
    if marker:
        order = replace(order, after=read_marker(marker, order, digest))
    names = [name for name in ReleaseSummary.model_fields if not shown or name in shown or name in _ALWAYS]
    page = await releases.list_rows(caller, filters, names, sort=order, limit=limit, totals=totals)
    headers = {}
    if page.next is not None:
        headers[MARKER] = write_marker(page.next, digest)
    if page.totals is not None:
        headers[TOTALS] = as_header(page.totals)
    if page.incomplete:
        headers[INCOMPLETE] = ", ".join(page.incomplete[:_NAMED_CLUSTERS])
    as_table = TABLE.lower() in accept.replace(" ", "").lower().split(",")
    body = table_json(page.releases, names) if as_table else as_json(page.releases, names)
    return Response(body, media_type=TABLE if as_table else _JSON, headers={**headers, "Vary": "Accept"})


def as_header(totals: Mapping[str, int]) -> str:
    """Return how many releases have each status; words that are not Helm's count as unknown.

    The status in a release's Secret is free text, which a header may not be able to hold.
    """
    counted: Counter[str] = Counter()
    for status, count in totals.items():
        counted[status if status in _STATUSES else ReleaseStatus.UNKNOWN.value] += count
    return ", ".join(f"{word}={count}" for word, count in counted.items())


def as_json(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> bytes:
    """Return the array of ``ReleaseSummary``, of rows that begin with the fields of those names.

    Not by that model, which takes six times as long: there may be a thousand rows.
    """
    views = [dict(zip(names, row, strict=False)) for row in rows]
    for name in _TIMES.intersection(names):
        for view in views:
            moment = view[name]
            view[name] = None if moment is None else moment.isoformat(timespec="milliseconds")
    if "age_seconds" in names:
        for view in views:
            view["age_seconds"] = None if view["age_seconds"] is None else rounded_age(view["age_seconds"])
    return orjson.dumps(views)


def table_json(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> bytes:
    """Return the table of rows that begin with the fields of those names."""
    count = len(names)
    values = [row[:count] for row in rows]
    if "age_seconds" in names:
        at = names.index("age_seconds")
        values = [(*row[:at], None if row[at] is None else rounded_age(row[at]), *row[at + 1 :]) for row in values]
    return orjson.dumps({"columns": names, "rows": values})

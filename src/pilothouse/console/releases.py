"""The list of releases: all clusters of the project, with the query in the address."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console import words
from pilothouse.console.rendering import is_partial, page, refusal
from pilothouse.console.requests import caller_of, here
from pilothouse.console.texts import Texts, gettext_noop
from pilothouse.errors import InvalidRequest, NotFound, PilothouseError
from pilothouse.http.release_queries import known, list_digest, read_marker, write_marker
from pilothouse.http.release_queries import words as split
from pilothouse.http.requests import service_of
from pilothouse.services.clusters import Clusters
from pilothouse.services.releases.project_list import ProjectPage, ProjectReleases
from pilothouse.states import UNSETTLED, ReleaseStatus
from pilothouse.store.release_lists import MANAGERS, SORTS, ReleaseFilter, ReleaseItem, ReleaseSort

_PAGE: Final = 50
_FIELDS: Final = (
    "q",
    "cluster",
    "namespace",
    "chart",
    "status",
    "manager",
    "drifted",
    "unlooked",
    "locked",
    "update",
    "sort",
    "marker",
)
_COLUMNS: Final = Texts({
    "name": gettext_noop("Release"),
    "status": gettext_noop("Status"),
    "cluster": gettext_noop("Cluster"),
    "chart": gettext_noop("Chart"),
    "updated": gettext_noop("Changed"),
})  # fmt: skip
#: Data that the cluster has not confirmed for so long is marked as old.
_OLD_SECONDS: Final = 120.0
_EMPTY: Final[ProjectPage[ReleaseItem]] = ProjectPage([], None, {}, [])


@dataclass(frozen=True)
class ListQuery:
    """The query of a list, as the address has it."""

    path: str
    given: dict[str, str]

    def __getitem__(self, name: str) -> str:
        """Return a field; empty if it is not given."""
        return self.given.get(name, "")

    def link(self, **changes: str) -> str:
        """Return the address of the same list with other fields, from its beginning."""
        filters = {**self.given, "marker": "", **changes}
        query = urlencode({name: filters[name] for name in _FIELDS if filters.get(name)})
        return f"{self.path}?{query}" if query else self.path

    def link_status(self, status: str) -> str:
        """Return the address with that status added, or taken away."""
        chosen = split(self["status"])
        left = [other for other in chosen if other != status]
        return self.link(status=",".join(left if len(left) < len(chosen) else [*chosen, status]))

    def link_sort(self, column: str) -> str:
        """Return the address sorted by the column, the other way round if it is already."""
        first = "-updated" if column == "updated" else column
        other = "updated" if column == "updated" else f"-{column}"
        return self.link(sort=other if self.sorted_by == first else first)

    @property
    def sorted_by(self) -> str:
        """The column that the list is sorted by, with - before it in reverse."""
        return self["sort"] or "name"

    @property
    def live(self) -> str:
        """The address that keeps this page current."""
        query = urlencode({name: value for name, value in self.given.items() if value})
        return f"{self.path}/live?{query}"

    @property
    def is_filtered(self) -> bool:
        """True if anything is left out."""
        return any(self[name] for name in _FIELDS if name not in {"sort", "marker"})


async def list_releases(request: Request) -> Response:
    """Show a page of the list; to a script only the list itself."""
    caller = caller_of(request)
    params = {name: request.query_params.get(name, "").strip() for name in _FIELDS}
    query, refused = ListQuery(f"{here(caller)}/releases", params), None
    try:
        filters, order = _read(query)
        found = await service_of(request, ProjectReleases).list_releases(
            caller, filters, sort=order, limit=_PAGE, totals=True
        )
        digest = list_digest(filters, order)
        after = write_marker(found.next, digest) if found.next is not None else ""
    except (InvalidRequest, NotFound) as error:
        found, after, refused = _EMPTY, "", refusal(request, error)
    partial = is_partial(request)
    if partial and refused is not None:  # htmx swaps in no error's page
        refused = replace(refused, status=200)
    is_empty = not found.releases and not query.is_filtered and refused is None
    may_know = caller.may("cce:cluster:list") and (is_empty or not partial)
    clusters = await _clusters(request) if may_know else []
    return await page(
        request,
        "releases_list.html" if partial else "releases.html",
        refused=refused,
        query=query,
        found=found,
        after=after,
        clusters=clusters,
        no_clusters=is_empty and may_know and not clusters,
        columns=_COLUMNS.items(),
        managers=list(MANAGERS),
        chips=_chips(found),
        chosen=split(query["status"]),
        ages=_ages(found.releases),
        old_seconds=_OLD_SECONDS,
        unsettled=UNSETTLED,
        moving=bool(found.elsewhere) or any(release.operation_id for release in found.releases),
        may_look=caller.may_somewhere("cce:release:get"),
        unlooked=await _count_unlooked(request, query) if query["drifted"] and refused is None else None,
        looks_itself=bool(request.app.state.settings.observer.drift_requests_per_second),
    )


async def _count_unlooked(request: Request, query: ListQuery) -> int:
    """Return how many releases have no look at their drift, as they are now; a filter by status counts for nothing."""
    filters, order = _read(replace(query, given={**query.given, "marker": ""}))
    filters = replace(filters, drifted=None, unlooked=True)
    found = await service_of(request, ProjectReleases).list_releases(
        caller_of(request), filters, sort=order, limit=1, totals=True
    )
    return sum((found.totals or {}).values())


def _read(query: ListQuery) -> tuple[ReleaseFilter, ReleaseSort]:
    by = known("sort", query.sorted_by.removeprefix("-"), SORTS)
    order = ReleaseSort(by, descending=query.sorted_by.startswith("-"))
    filters = ReleaseFilter(
        cluster=query["cluster"],
        namespace=query["namespace"],
        name=query["q"].lower(),  # names of releases have no capitals
        chart=query["chart"],
        drifted=True if query["drifted"] else None,
        unlooked=bool(query["unlooked"]),
        locked=bool(query["locked"]),
        update_available=True if query["update"] else None,
        manager=known("manager", query["manager"], MANAGERS) if query["manager"] else "",
        statuses=tuple(known("status", word, ReleaseStatus) for word in split(query["status"])),
    )
    if query["marker"]:
        order = replace(order, after=read_marker(query["marker"], order, list_digest(filters, order)))
    return filters, order


async def _clusters(request: Request) -> list[str]:
    try:
        return list((await service_of(request, Clusters).list_names(caller_of(request))).values())
    except PilothouseError:
        return []


def _chips(found: ProjectPage[ReleaseItem]) -> list[tuple[str, int]]:
    """Return the statuses that there are, with their counts, the urgent ones first."""
    totals = found.totals or {}
    listed = [(str(status), totals.get(status, 0)) for status in words.LISTED if totals.get(status)]
    others = sum(count for status, count in totals.items() if status not in set(words.LISTED))
    return [*listed, *([("other", others)] if others else [])]


def _ages(items: Sequence[ReleaseItem]) -> list[tuple[str, float | None]]:
    """Return how old what is shown is, by cluster."""
    return sorted({item.cluster_name: item.age_seconds for item in items}.items())


ROUTES: Final = [
    Route("/releases", list_releases, methods=["GET"]),
    Route("/releases/live", list_releases, methods=["GET"]),
]

"""The charts of a source: versions of one, and one version with README, values and the releases that could take it."""

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.rendering import page
from pilothouse.console.requests import caller_of
from pilothouse.console.sources import source_path
from pilothouse.http.requests import service_of
from pilothouse.services.releases.project_list import ProjectReleases
from pilothouse.services.sources.charts import SourceCharts
from pilothouse.services.sources.pull import SourceReference
from pilothouse.services.sources.sources import Sources
from pilothouse.store.release_lists import ReleaseFilter, ReleaseItem, ReleaseSort

_PAGE: Final = 100
_LONGEST_MARKER: Final = 1000
_MOST_RELEASES: Final = 20
_CHART: Final = "/sources/{source}/charts/{chart}"


async def list_versions(request: Request) -> Response:
    """List the versions of a chart, newest first."""
    caller, charts, name = caller_of(request), service_of(request, SourceCharts), request.path_params["chart"]
    source = await service_of(request, Sources).show(caller, request.path_params["source"])
    marker = request.query_params.get("marker", "")[:_LONGEST_MARKER]
    found = await charts.list_versions(caller, source.id, name, after=marker, limit=_PAGE)
    return await page(
        request,
        "source_chart.html",
        source=source,
        at=source_path(caller, source.name),
        name=name,
        summary=await charts.summarise_versions(caller, source.id, name),
        versions=found.versions,
        marker=marker,
        after=found.next,
    )


async def show_version(request: Request) -> Response:
    """Show one version, which is pulled unless it was before, and the releases of a chart of that name."""
    caller, params = caller_of(request), request.path_params
    reference = SourceReference(source=params["source"], name=params["chart"], version=params["version"])
    found = await service_of(request, SourceCharts).show_version(caller, reference)
    return await page(
        request,
        "source_version.html",
        found=found,
        at=source_path(caller, found.source),
        releases=await _releases(request, found.version.name),
        most_releases=_MOST_RELEASES,
    )


async def _releases(request: Request, chart: str) -> Sequence[ReleaseItem]:
    caller = caller_of(request)
    if not caller.may("cce:release:list"):
        return []
    filters, order = ReleaseFilter(chart=chart), ReleaseSort("name")
    service = service_of(request, ProjectReleases)
    return (await service.list_releases(caller, filters, sort=order, limit=_MOST_RELEASES, totals=False)).releases


ROUTES: Final = [
    Route(_CHART, list_versions, methods=["GET"]),
    Route(f"{_CHART}/{{version}}", show_version, methods=["GET"]),
]

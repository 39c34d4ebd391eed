"""The charts of a source: versions of one, and one version with README, values and the releases that could take it."""

import re
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.rendering import page
from pilothouse.console.requests import caller_of, wrong
from pilothouse.console.sources import source_path
from pilothouse.console.texts import gettext
from pilothouse.http.requests import service_of
from pilothouse.services.releases.project_list import ProjectReleases
from pilothouse.services.sources.pull import SourceReference
from pilothouse.services.sources.sources import Sources
from pilothouse.store.release_lists import ReleaseFilter, ReleaseItem, ReleaseSort
from pilothouse.store.source_charts import SourceVersion

_PAGE: Final = 100
_MOST_RELEASES: Final = 20
_CHART: Final = "/sources/{source}/charts/{chart}"


async def list_versions(request: Request) -> Response:
    """List the versions of a chart, newest first."""
    caller, sources, name = caller_of(request), service_of(request, Sources), request.path_params["chart"]
    source = await sources.show(caller, request.path_params["source"])
    found = await sources.list_versions(caller, source.id, name)
    number = _read_number(request.query_params.get("page", "1"))
    return await page(
        request,
        "source_chart.html",
        source=source,
        at=source_path(caller, source.name),
        name=name,
        newest=_newest(found),
        versions=found[(number - 1) * _PAGE : number * _PAGE],
        count=len(found),
        refused_count=sum(1 for one in found if one.refused),
        number=number,
        is_last=number * _PAGE >= len(found),
    )


def _newest(found: Sequence[SourceVersion]) -> SourceVersion:
    """Return the version to propose: the newest stable one that was not refused, else the newest."""
    stable = (one for one in found if not one.is_gone and not one.is_prerelease)
    return next((one for one in stable if not one.refused), next((one for one in found if one.is_newest), found[0]))


def _read_number(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise wrong("page", gettext("%(given)s is not the number of a page", given=repr(text[:40])))
    return int(text)


async def show_version(request: Request) -> Response:
    """Show one version, which is pulled unless it was before, and the releases of a chart of that name."""
    caller, given = caller_of(request), request.path_params
    reference = SourceReference(source=given["source"], name=given["chart"], version=given["version"])
    found = await service_of(request, Sources).show_version(caller, reference)
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
    wanted, order = ReleaseFilter(chart=chart), ReleaseSort("name")
    service = service_of(request, ProjectReleases)
    return (await service.list_releases(caller, wanted, sort=order, limit=_MOST_RELEASES, totals=False)).releases


ROUTES: Final = [
    Route(_CHART, list_versions, methods=["GET"]),
    Route(f"{_CHART}/{{version}}", show_version, methods=["GET"]),
]

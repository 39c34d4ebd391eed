"""Drift of several releases: looks at those that were chosen in the list, and tells what each has shown.

A look here is the one that a release's page has, with the same right. All of them together have the time of one.
"""

import asyncio
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.bulk import read_places
from pilothouse.console.rendering import page, refusal
from pilothouse.console.requests import caller_of
from pilothouse.console.texts import gettext
from pilothouse.errors import PilothouseError
from pilothouse.http.cluster_reads import budget_of
from pilothouse.http.requests import service_of
from pilothouse.kubernetes.budget import budgeted
from pilothouse.services.clusters import Clusters
from pilothouse.services.identity.standing import Standing
from pilothouse.services.releases.details import ReleaseDetails, ReleaseRef
from pilothouse.services.releases.drift import SECONDS
from pilothouse.services.releases.drift_reads import ReleaseDrifts
from pilothouse.states import ReleaseStatus

#: As many as a page of the list has.
MOST: Final = 50
_AT_ONCE: Final = 4
_GET: Final = "cce:release:get"


@dataclass(frozen=True)
class Look:
    """What was found at a release; ``counts``: objects by change. ``problem``: why it was not looked at.

    ``missing``: how many of those that were removed are of a failed revision, which may never have created them.
    ``problems``: what of it was not looked at. ``late``: there was no time left for it.
    """

    place: ReleaseRef
    revision: int = 0
    counts: dict[str, int] | None = None
    problems: tuple[str, ...] = ()
    problem: str = ""
    late: bool = False
    missing: int = 0

    @property
    def state(self) -> str:
        """Return the word for what was found, as ``words.drift`` takes it."""
        if self.counts is None:
            return "unlooked"
        if sum(self.counts[change] for change in ("added", "changed", "removed")) > self.missing:
            return "drifted"
        if self.missing:
            return "uncreated"
        return "partly" if self.counts["unknown"] or self.problems else "none"


#: What is shown first.
_ORDER: Final = ("drifted", "unlooked", "uncreated", "partly", "none")


async def look(request: Request) -> Response:
    """Look at each, a few of a cluster at once, and show what was found."""
    caller_of(request).require_somewhere(_GET)
    places = sorted(
        read_places(request.query_params.getlist("release"), most=MOST), key=lambda release: release.cluster
    )
    until, turns, tasks = asyncio.get_running_loop().time() + SECONDS, asyncio.Semaphore(_AT_ONCE), []
    for _, group in groupby(places, key=lambda release: release.cluster):
        try:
            async with asyncio.TaskGroup() as looking:
                tasks += [looking.create_task(look_in_turn(request, release, turns, until)) for release in group]
        except ExceptionGroup as several:  # the session has ended meanwhile
            raise several.exceptions[0] from None
    looks = sorted((task.result() for task in tasks), key=lambda found: (_ORDER.index(found.state), found.place.name))
    return await page(
        request,
        "drifts.html",
        looks=looks,
        drifted=sum(found.state == "drifted" for found in looks),
        late=[found.place for found in looks if found.late],
        seconds=SECONDS,
    )


async def look_in_turn(request: Request, place: ReleaseRef, turns: asyncio.Semaphore, until: float) -> Look:
    """Look at one when it is its turn, until that time of the loop; a problem is what was found, too."""
    try:
        async with asyncio.timeout_at(until), turns:
            # of its own: what one look has used up would leave the next ones blind
            with budgeted(budget_of(request.scope, request.app.state.settings.cluster)):
                return await _look(request, place)
    except TimeoutError:
        problem = gettext("the time for all of them together, %(seconds)s s, was over", seconds=round(SECONDS))
        return Look(place, problem=problem, late=True)
    except PilothouseError as error:
        return Look(place, problem=refusal(request, error, place=place).text)


async def _look(request: Request, place: ReleaseRef) -> Look:
    caller = caller_of(request)
    if caller.policies:
        found = await service_of(request, Clusters).find_id(place.cluster, project_id=caller.project_id)
        caller = caller.at(found or place.cluster, place.namespace)
    release = (await service_of(request, ReleaseDetails).show_head(caller, place)).release
    named = replace(place, cluster=release.cluster_name)
    if release.status == ReleaseStatus.UNINSTALLED:
        return Look(named, problem=gettext("it is uninstalled: there is nothing to compare"))
    drift = await service_of(request, ReleaseDrifts).read(caller, replace(place, cluster=release.cluster_id))
    await service_of(request, Standing).require(caller, _GET)
    return Look(named, drift.revision, drift.summary, tuple(drift.problems), missing=drift.missing)


ROUTES: Final = [Route("/releases/bulk/drift", look, methods=["GET"])]

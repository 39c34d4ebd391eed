"""Health of this process for everyone, and its status for authorised callers."""

from typing import Annotated

from fastapi import Query

from pilothouse import __version__
from pilothouse.api.v1.dependencies import CurrentCaller, allowed_in_account, service
from pilothouse.api.v1.models import OptionalBlank, View
from pilothouse.api.v1.routing import native_router
from pilothouse.http.endpoints import HEALTH_PATH
from pilothouse.loop_watch import REMEMBERED_SECONDS, LoopWatch
from pilothouse.store import cluster_watches
from pilothouse.store.database import Database

public_router = native_router("", tag="health", public=True)
router = native_router("/api/v1", tag="health")
DatabaseService = Annotated[Database, service(Database)]


class HealthView(View):
    """A server that is up."""

    status: str = "ok"


class IndexHealth(View):
    """Age of the data that reads return."""

    clusters: int
    unwatched: int
    oldest_age_seconds: float


class StatusView(View):
    """Status of the server."""

    version: str
    index: IndexHealth
    loop_held_milliseconds: float


@public_router.get(HEALTH_PATH)
async def show_health(database: DatabaseService) -> HealthView:
    """Return 200 if the database answers; otherwise the error of any request that needs it."""
    await database.ping()
    return HealthView()


@router.get("/status", dependencies=[allowed_in_account("pilothouse:status:get")])
async def show_status(
    _caller: CurrentCaller,
    database: DatabaseService,
    watch: Annotated[LoopWatch, service(LoopWatch)],
    seconds: Annotated[
        int,
        Query(ge=1, le=REMEMBERED_SECONDS, description="how far back loop_held_milliseconds looks"),
        OptionalBlank,
    ] = REMEMBERED_SECONDS,
) -> StatusView:
    """Show the status of the server; requires `pilothouse:status:get` in the whole account.

    ``index`` is the age of the data that reads return: the number of clusters, of those not watched now, and the
    greatest age in seconds. ``loop_held_milliseconds`` is the longest time in the last minute, or in so many `seconds`,
    for which this process answered no request.
    """
    async with database.autocommit() as connection:
        watching = await cluster_watches.find_watching(connection)
    index = IndexHealth(
        clusters=watching.clusters,
        unwatched=watching.unwatched,
        oldest_age_seconds=round(watching.oldest_age_seconds, 1),
    )
    held = round(watch.longest_seconds(seconds) * 1000, 1)
    return StatusView(version=__version__, index=index, loop_held_milliseconds=held)

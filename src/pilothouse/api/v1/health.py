"""Whether this process can serve, for everybody; and how it does, for who may know."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from pilothouse import __version__
from pilothouse.errors import InvalidRequest
from pilothouse.http.endpoints import HEALTH_PATH
from pilothouse.http.openapi import asks
from pilothouse.http.requests import caller_of, json_response
from pilothouse.loop_watch import REMEMBERED_SECONDS, LoopWatch
from pilothouse.store import cluster_watches
from pilothouse.store.database import Database


class HealthView(BaseModel):
    """A server that serves."""

    status: str


class IndexHealth(BaseModel):
    """How old what reads answer from is."""

    clusters: int
    unwatched: int
    oldest_age_seconds: float


class StatusView(BaseModel):
    """How the server does."""

    version: str
    index: IndexHealth
    loop_held_milliseconds: float


def routes(database: Database, watch: LoopWatch) -> APIRouter:
    """The health route, which needs no credentials, and the status."""
    router = APIRouter(tags=["health"])

    @router.get(HEALTH_PATH, response_model=HealthView)
    async def show_health() -> Response:
        """200 when the database answers; otherwise the error of any request that needs it."""
        await database.ping()
        return json_response({"status": "ok"})

    @router.get(
        "/api/v1/status",
        response_model=StatusView,
        openapi_extra=asks(seconds=f"how far back loop_held_milliseconds looks, 1 to {REMEMBERED_SECONDS}, else 60"),
    )
    async def show_status(request: Request) -> Response:
        """How the server does, for who may read `pilothouse:status:get` in the whole account.

        ``index`` tells how old what reads answer from is: of how many clusters, how many are not watched now, and the
        age of the oldest in seconds. ``loop_held_milliseconds`` is the longest time in the last minute, or in
        so many `seconds`, for which this process answered nobody.
        """
        caller_of(request).require_in_account("pilothouse:status:get")
        last = _seconds(request.query_params.get("seconds"))
        async with database.autocommit() as connection:
            watching = await cluster_watches.find_watching(connection)
        index = {
            "clusters": watching.clusters,
            "unwatched": watching.unwatched,
            "oldest_age_seconds": round(watching.oldest_age_seconds, 1),
        }
        held = round(watch.longest_seconds(last) * 1000, 1)
        return json_response({"version": __version__, "index": index, "loop_held_milliseconds": held})

    return router


def _seconds(text: str | None) -> int:
    if not text:
        return REMEMBERED_SECONDS
    if text.isascii() and text.isdigit() and len(text) <= len(str(REMEMBERED_SECONDS)):
        number = int(text)
        if 1 <= number <= REMEMBERED_SECONDS:
            return number
    raise InvalidRequest(f"seconds: {text[:20]!r} is no number from 1 to {REMEMBERED_SECONDS}")

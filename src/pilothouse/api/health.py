"""Whether this process can serve: it answers, and so does the database."""

from fastapi import APIRouter, Response
from pydantic import BaseModel

from pilothouse import __version__
from pilothouse.store import observations
from pilothouse.store.database import Database
from pilothouse.web.requests import json_response

HEALTH_PATH = "/api/v1/health"


class IndexHealth(BaseModel):
    """How old what reads answer from is."""

    clusters: int
    unwatched: int
    oldest_age_seconds: float


class HealthView(BaseModel):
    """A server that serves."""

    status: str
    version: str
    index: IndexHealth


def routes(database: Database) -> APIRouter:
    """The health route; it needs no credentials."""
    router = APIRouter(tags=["health"])

    @router.get(HEALTH_PATH, response_model=HealthView)
    async def show_health() -> Response:
        """200 when the database answers; otherwise the error of any request that needs it.

        ``index`` tells how old what reads answer from is: of how many clusters, how many are not watched now, and the
        age of the oldest in seconds.
        """
        async with database.statements() as tx:
            watching = await observations.find_watching(tx)
        index = {
            "clusters": watching.clusters,
            "unwatched": watching.unwatched,
            "oldest_age_seconds": round(watching.oldest_age_seconds, 1),
        }
        return json_response({"status": "ok", "version": __version__, "index": index})

    return router

"""The chart of a release, as its newest revision stores it: README, schema of the values, and its facts."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.release import PREFIX, follow, place_of, show_head, show_page
from pilothouse.console.rendering import refusal
from pilothouse.console.requests import caller_of
from pilothouse.errors import Forbidden, NotAuthenticated, PilothouseError
from pilothouse.http.requests import service_of
from pilothouse.services.identity.standing import Standing
from pilothouse.services.releases.details import ReleaseDetails

#: Of a README or schema, so that one of many megabytes keeps no browser busy.
_MOST_TEXT: Final = 300_000


async def show_chart(request: Request) -> Response:
    """Show what the stored chart says of itself; if the cluster cannot be read, the page says why and has its head."""
    found, refused, details = None, None, service_of(request, ReleaseDetails)
    detail = await show_head(request)
    try:
        found = await details.read_chart(await details.locate(caller_of(request), place_of(request)))
        await service_of(request, Standing).require(caller_of(request), "cce:release:get")
    except (NotAuthenticated, Forbidden):
        raise
    except PilothouseError as error:
        refused = refusal(request, error)
    return await show_page(
        request,
        "release_chart.html",
        tab="chart",
        follows="/chart",
        detail=detail,
        refused=refused,
        chart=found,
        most_text=_MOST_TEXT,
    )


ROUTES: Final = [
    Route(f"{PREFIX}/chart", show_chart, methods=["GET"]),
    Route(f"{PREFIX}/chart/live", follow(show_chart, "/chart"), methods=["GET"]),
]

"""Log-in at an identity provider: away to it, and back from it."""

from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pilothouse.console.login import own_path, show_problem
from pilothouse.console.rendering import HEADERS
from pilothouse.console.requests import base, root
from pilothouse.console.session import departure_of, drop_departure, set_departure, set_session
from pilothouse.errors import Forbidden, NotAuthenticated, NotFound, ProviderUnavailable
from pilothouse.http.requests import request_id_of, service_of, source_of
from pilothouse.services.identity.sessions import Opening, Sessions
from pilothouse.services.identity.single_sign_on import SingleSignOn

_REFUSALS: Final = (NotFound, NotAuthenticated, Forbidden, ProviderUnavailable)


async def leave(request: Request) -> Response:
    """Send the browser to the provider."""
    name, next_path = request.path_params["provider"], own_path(request.query_params.get("next", ""))
    sign_on = service_of(request, SingleSignOn)
    try:
        departure = await sign_on.begin(name, back_at=_back_at(name), next_path=next_path)
    except _REFUSALS as error:
        return await show_problem(request, error, next_path=next_path)
    response = RedirectResponse(departure.url, status_code=303, headers=HEADERS)
    set_departure(request, response, departure.kept)
    return response


async def come_back(request: Request) -> Response:
    """Open a session for the person whom the provider sends back."""
    name, previous = request.path_params["provider"], request.scope["state"].get("caller")
    agent = request.headers.get("user-agent", "")
    opening = Opening(source=source_of(request), agent=agent, request_id=request_id_of(request))
    try:
        opened, next_path = await service_of(request, SingleSignOn).finish(
            name,
            kept=departure_of(request),
            answer=dict(request.query_params),
            back_at=_back_at(name),
            opening=opening,
        )
    except _REFUSALS as error:
        response = await show_problem(request, error, next_path="")
        drop_departure(request, response)
        return response
    if previous is not None:
        await service_of(request, Sessions).end_previous(previous, request_id=request_id_of(request))
    response = RedirectResponse(
        f"{root()}{own_path(next_path)}" if own_path(next_path) else f"{base()}/", status_code=303, headers=HEADERS
    )
    set_session(request, response, opened.text)
    drop_departure(request, response)
    return response


def _back_at(name: str) -> str:
    return f"{base()}/login/from/{name}"


ROUTES: Final = [
    Route("/login/at/{provider}", leave, methods=["GET"]),
    Route("/login/from/{provider}", come_back, methods=["GET"]),
]

"""The console as an application: its routes, its errors as pages, its files.

It is mounted in the API's process, behind the gateway, which has found the caller of the session already.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from pilothouse.console import (
    access,
    audit,
    bulk,
    change,
    charts,
    clusters,
    comparisons,
    drifts,
    groups,
    install,
    login,
    operations,
    people,
    plans,
    pods,
    policies,
    release,
    release_chart,
    release_writes,
    releases,
    single_sign_on,
    source_charts,
    sources,
    verification,
    words,
)
from pilothouse.console.login import ask_to_log_in
from pilothouse.console.rendering import HEADERS, STATIC, came_from, here_again, page, refusal
from pilothouse.console.requests import AtRoot, caller_of, find_menu, here, root
from pilothouse.console.resumed import tell_form
from pilothouse.console.streams import Shared
from pilothouse.console.texts import InLanguage, gettext
from pilothouse.errors import InvalidRequest, NotAuthenticated, NotFound, PilothouseError
from pilothouse.http.requests import service_of
from pilothouse.services.identity.projects import Projects
from pilothouse.settings import Settings

Endpoint = Callable[[Request], Awaitable[Response]]
_SMALL: Final = 500
#: Of operations that several follow.
_KEPT_MESSAGES: Final = 16
#: From this status on it is a failure of the server, which its log has.
_OURS: Final = 500


async def home(request: Request) -> Response:
    """Lead to the releases of the person's project; the one named like the region first."""
    menu = await find_menu(request)
    if not menu:
        return await page(request, "projects.html", projects=[])
    return RedirectResponse(f"{menu['here']}/releases", status_code=302, headers=HEADERS)


async def project_home(request: Request) -> Response:
    """Lead to the project's releases."""
    return RedirectResponse(f"{here(caller_of(request))}/releases", status_code=302, headers=HEADERS)


async def list_projects(request: Request) -> Response:
    """List the projects that the person can work in."""
    usable = await service_of(request, Projects).list_usable(caller_of(request))
    return await page(request, "projects.html", projects=usable, **await find_menu(request))


def create_console(settings: Settings, services: Mapping[type, Any]) -> ASGIApp:
    """Return the console over the application's services."""
    of_project = [Route("/", project_home)]
    inside = (
        releases,
        bulk,
        drifts,
        release,
        release_chart,
        comparisons,
        pods,
        release_writes,
        install,
        change,
        plans,
        operations,
        clusters,
        charts,
    )
    for part in (*inside, sources, source_charts, verification, audit, access, groups, policies):
        of_project += part.ROUTES
    app = Starlette(
        routes=[
            Route("/", home),
            Route("/projects", list_projects),
            *login.ROUTES,
            *single_sign_on.ROUTES,
            *people.ROUTES,
            Route("/p/{project}", project_home),
            Mount("/p/{project}", Router(of_project, redirect_slashes=False)),
            Mount("/static", _Files(directory=STATIC)),
        ],
        exception_handlers={PilothouseError: _explain, HTTPException: _not_found},
        middleware=[
            Middleware(AtRoot, root=settings.root_path),
            Middleware(InLanguage),
            Middleware(GZipMiddleware, minimum_size=_SMALL),
        ],
    )
    app.router.redirect_slashes = False  # Starlette makes the address from the header Host, and of plain HTTP
    app.state.services = services
    app.state.settings = settings
    app.state.messages = Shared[tuple[bytes, bool]](most=_KEPT_MESSAGES)
    return app


class _Files(StaticFiles):
    """Files whose address changes with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


async def _explain(request: Request, error: Exception) -> Response:
    """Show an error as a page; without a session it is the log-in."""
    if isinstance(error, NotAuthenticated):
        return await ask_to_log_in(request)
    if not isinstance(error, PilothouseError):
        raise error
    refused = refusal(request, error)
    heading, advice, may_help = words.explain(error, is_write=request.method == "POST")
    return await page(
        request,
        "error.html",
        refused=refused,
        heading=heading,
        advice=advice,
        again=here_again(request) if may_help else "",
        came_from=came_from(request),
        code=refused.code,
        ours=refused.status >= _OURS,
    )


async def _not_found(request: Request, error: Exception) -> Response:
    path = request.scope["path"]
    is_other = isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    if is_other and request.method in {"GET", "HEAD"} and (form := tell_form(path, {}).page) != path:
        return RedirectResponse(f"{root()}{form}", status_code=303, headers=HEADERS)
    problem: PilothouseError = NotFound(gettext("there is no page %(path)s", path=repr(path[:200])))
    if is_other:
        problem = InvalidRequest(
            gettext("%(method)s is not a way to ask for %(path)s", method=request.method, path=repr(path[:200]))
        )
    if "caller" not in request.scope["state"]:
        return await ask_to_log_in(request)
    return await _explain(request, problem)

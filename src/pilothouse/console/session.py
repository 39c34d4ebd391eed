"""The cookie of a session, as pages set, read and remove it."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.http.middleware.session import cookie_name, cookie_text, is_secure, session_text
from pilothouse.settings import Settings

#: Lax, not Strict: a link to a page from a chat must find the session; writes need a form's proof anyway.
_SAME_SITE: Final = "lax"
#: The browser forgets it then; how long it counts is sealed in it.
_DEPARTURE_SECONDS: Final = 3600


def session_of(request: Request) -> str:
    """Return the text of the request's session; empty without one."""
    return session_text(request.scope, secure=_is_secure(request), root=_root(request))


def set_session(request: Request, response: Response, text: str) -> None:
    """Give the browser the session, until it ends by itself."""
    secure, root = _is_secure(request), _root(request)
    name, path = cookie_name(secure=secure, root=root), f"{root}/"
    response.set_cookie(name, text, path=path, secure=secure, httponly=True, samesite=_SAME_SITE)


def drop_session(request: Request, response: Response) -> None:
    """Take the session from the browser."""
    secure, root = _is_secure(request), _root(request)
    name, path = cookie_name(secure=secure, root=root), f"{root}/"
    response.delete_cookie(name, path=path, secure=secure, httponly=True, samesite=_SAME_SITE)


def _root(request: Request) -> str:
    settings: Settings = request.app.state.settings
    return settings.root_path


def departure_of(request: Request) -> str:
    """Return what the browser keeps of a log-in at a provider; empty without one."""
    return cookie_text(request.scope, _departure(request))


def set_departure(request: Request, response: Response, text: str) -> None:
    """Give the browser what it has to come back with from a provider."""
    response.set_cookie(
        _departure(request),
        text,
        max_age=_DEPARTURE_SECONDS,
        path=f"{_root(request)}/",
        secure=_is_secure(request),
        httponly=True,
        samesite=_SAME_SITE,
    )


def drop_departure(request: Request, response: Response) -> None:
    """Take that from the browser: it counts once."""
    secure, path = _is_secure(request), f"{_root(request)}/"
    response.delete_cookie(_departure(request), path=path, secure=secure, httponly=True, samesite=_SAME_SITE)


def _departure(request: Request) -> str:
    return f"{cookie_name(secure=_is_secure(request), root=_root(request))}-login"


def _is_secure(request: Request) -> bool:
    settings: Settings = request.app.state.settings
    return is_secure(request.scope, settings.trusted_networks)

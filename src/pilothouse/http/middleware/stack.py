"""Order of the layers, and settings of the HTTP server in front of them.

Order, outside in: request id and log line, rate of the address, limits of the head, rate of the credential, header-only
credential check, body, signature.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from starlette.types import ASGIApp

from pilothouse.http.middleware.authentication import AuthenticationMiddleware
from pilothouse.http.middleware.authenticator import Authenticator, K
from pilothouse.http.middleware.request_id import RequestIdMiddleware, new_request_id
from pilothouse.http.middleware.session import SessionFinder
from pilothouse.http.protocol import GatewayProtocol
from pilothouse.settings import Settings

_HEAD_BYTES: Final = 192 * 1024  # above the limits that check_head states, so that it and not h11 refuses


def wrap(
    app: ASGIApp,
    *,
    settings: Settings,
    authenticator: Authenticator[K],
    is_public: Callable[[str, str], bool],
    clock: Callable[[], datetime],
    largest_body: Callable[[str, str], int] | None = None,
    sessions: SessionFinder | None = None,
    new_id: Callable[[], str] = new_request_id,
) -> ASGIApp:
    """Return the application behind the gateway; ``is_public`` and ``largest_body`` take method and decoded path."""
    guarded = AuthenticationMiddleware(
        app,
        settings=settings,
        authenticator=authenticator,
        is_public=is_public,
        clock=clock,
        largest_body=largest_body,
        sessions=sessions,
    )
    return RequestIdMiddleware(guarded, new_id=new_id, root=settings.root_path)


def server_options(settings: Settings) -> dict[str, Any]:
    """Return arguments for ``uvicorn.Config`` that prevent plain-text errors and query strings in logs."""
    return {
        "loop": "uvloop",
        "http": GatewayProtocol,
        "ws": "none",
        "h11_max_incomplete_event_size": _HEAD_BYTES,
        "timeout_keep_alive": settings.http.idle_seconds,
        "access_log": False,
        "server_header": False,
    }

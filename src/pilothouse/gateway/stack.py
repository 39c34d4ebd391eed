"""Puts the layers in their order, and says how the HTTP server in front of them must be set.

Order, outside in: request id and log line, limits of the head, header-only credential check, body, signature.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from starlette.types import ASGIApp

from pilothouse.gateway.credentials import Authenticator, Credentials, K
from pilothouse.gateway.protocol import GatewayProtocol
from pilothouse.gateway.request_id import RequestIds, new_request_id
from pilothouse.settings import Settings

_HEAD_BYTES: Final = 192 * 1024  # above the limits that check_head states, so that it and not h11 refuses
_KEEP_ALIVE_SECONDS: Final = 75  # clients poll every few seconds; a connection that closes under them is an error


def wrap(
    app: ASGIApp,
    *,
    settings: Settings,
    authenticator: Authenticator[K],
    is_public: Callable[[str, str], bool],
    clock: Callable[[], datetime],
    new_id: Callable[[], str] = new_request_id,
) -> ASGIApp:
    """The application behind the gateway; ``is_public`` takes method and decoded path."""
    guarded = Credentials(app, settings=settings, authenticator=authenticator, is_public=is_public, clock=clock)
    return RequestIds(guarded, new_id=new_id)


def server_options() -> dict[str, Any]:
    """Keyword arguments for ``uvicorn.Config`` without which plain-text errors and query strings in logs come back."""
    return {
        "loop": "uvloop",
        "http": GatewayProtocol,
        "ws": "none",
        "h11_max_incomplete_event_size": _HEAD_BYTES,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "access_log": False,
        "server_header": False,
    }

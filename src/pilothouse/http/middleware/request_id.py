"""The outermost layer: every request gets an id, one log line, and always an answer in JSON, or a page for a browser.

The id is always our own: a caller's ``X-Request-Id`` would let it choose what the log says.
"""

import secrets
import time
from collections.abc import Callable
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilothouse import tracing
from pilothouse.http.gateway_errors import INTERNAL, answer_to, see_the_log
from pilothouse.metrics import HTTP_ACTIVE, HTTP_REQUESTS, HTTP_SECONDS

_HEADER: Final = b"x-request-id"
_IAM_HEADER: Final = b"x-iam-trace-id"
_TRACEPARENT: Final = tracing.TRACEPARENT.encode()
_SERVER_ERROR: Final = 500
_CLIENT_GONE: Final = 499  # no answer was sent; nginx's number, in the log only
_LONGEST_PATH: Final = 512
_LONGEST_METHOD: Final = 16
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = structlog.get_logger(__name__)


def new_request_id() -> str:
    """Return 32 hex digits from the system's randomness."""
    return secrets.token_hex(16)


class RequestIdMiddleware:
    """Set ``X-Request-Id`` on every response, ``scope['state']['request_id']``, and the log context.

    An exception that arrives here is logged with its traceback and answered with 500 CCE.01500001, unless a response
    has started already; then the server cuts the connection, so that no client takes a partial answer for a complete
    one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        new_id: Callable[[], str] = new_request_id,
        root: str = "",
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._new_id = new_id
        self._root = root
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; only HTTP and the lifespan of the process pass."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            # Nothing here speaks WebSocket, and one that passed would pass the credentials too.
            await send({"type": "websocket.close", "code": 1008, "reason": "WebSocket is not served here"})
        else:
            with tracing.span(_method(scope), "server", parent=_traceparent(scope)) as span, tracing.traced_log(span):
                await self._serve(scope, receive, send, span)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, span: tracing.Span) -> None:
        started = self._monotonic()
        request_id = self._new_id()
        # IAM's clients print its own header in their messages.
        names = (_HEADER, _IAM_HEADER) if scope["path"].startswith("/v3") else (_HEADER,)
        id_headers = [(name, request_id.encode("ascii")) for name in names]
        if span.traceparent:
            id_headers.append((_TRACEPARENT, span.traceparent.encode("ascii")))
        scope.setdefault("state", {})["request_id"] = request_id
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                others = (header for header in message.get("headers", ()) if header[0].lower() != _HEADER)
                message["headers"] = [*others, *id_headers]
            await send(message)

        tokens = structlog.contextvars.bind_contextvars(request_id=request_id)
        HTTP_ACTIVE.inc()
        try:
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                log.exception(
                    "request_failed", request_id=request_id, method=scope["method"][:_LONGEST_METHOD], path=_path(scope)
                )
                if status is None:
                    answer = answer_to(scope, INTERNAL, detail=see_the_log(request_id), root=self._root)
                    await answer(scope, receive, send_with_id)
        finally:
            seconds, answered = self._monotonic() - started, _CLIENT_GONE if status is None else status
            HTTP_ACTIVE.dec()
            _count(scope, answered, seconds)
            _describe(span, scope, answered, request_id)
            log.info(
                "request_served",
                request_id=request_id,
                method=scope["method"][:_LONGEST_METHOD],
                path=_path(scope),
                status=answered,
                duration_ms=round(seconds * 1000, 1),
                project_id=getattr(scope["state"].get("caller"), "project_id", None),
            )
            structlog.contextvars.reset_contextvars(**tokens)


def _route(scope: Scope) -> str:
    """Return the template of the request's route: what clients choose names no series, and no span."""
    # the route itself knows its path without the prefix under which it was included
    included = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    path = getattr(included, "path", "")
    # what is mounted knows its paths without where it is mounted
    return scope.get("root_path", "") + path if path else ""


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "_OTHER"


def _count(scope: Scope, status: int, seconds: float) -> None:
    method, route = _method(scope), _route(scope)
    HTTP_REQUESTS.labels(method, route, str(status)).inc()
    HTTP_SECONDS.labels(method, route).observe(seconds)


def _describe(span: tracing.Span, scope: Scope, status: int, request_id: str) -> None:
    if not span.traceparent:
        return
    method, route = _method(scope), _route(scope)
    span.rename(f"{method} {route}" if route else method)
    span.note(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "pilothouse.request_id": request_id,
        }
    )
    if status >= _SERVER_ERROR:
        span.fail(str(status))


def _traceparent(scope: Scope) -> str:
    """Return the header that continues a caller's trace; empty, which begins one, if there is none or more than one."""
    found = [value for name, value in scope["headers"] if name.lower() == _TRACEPARENT]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _path(scope: Scope) -> str:
    """Return the raw path, still percent-encoded, so that it cannot forge a log line; never the query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode("unicode_escape")
    return raw[:_LONGEST_PATH].decode("ascii", "backslashreplace")

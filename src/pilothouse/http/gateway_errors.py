"""Errors answered before a route is reached, in the form of the vendor's API gateway; to a browser as a page.

Each is a JSON object with code and message in both spellings: the Python and Go SDKs read
``errorCode``/``errorMessage``, Java and Node ``error_code``/``error_msg``, and none of them can handle an error that is
not JSON.

Source: Huawei Cloud APIG user guide, "Error Codes"; CCE API reference, "Error Codes".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

_LONGEST_ECHO: Final = 200


@dataclass(frozen=True, slots=True)
class GatewayCode:
    """One kind of refusal: HTTP status, the vendor's code, and the text before the detail."""

    status: int
    code: str
    message: str


BAD_REQUEST: Final = GatewayCode(400, "APIGW.0201", "Bad request")
NOT_AUTHENTICATED: Final = GatewayCode(401, "APIGW.0301", "Incorrect IAM authentication information")
PROJECT_UNAVAILABLE: Final = GatewayCode(403, "APIGW.0310", "The project is unavailable")
NO_SUCH_API: Final = GatewayCode(404, "APIGW.0101", "The API does not exist or has not been published")
BODY_STALLED: Final = GatewayCode(408, "APIGW.0201", "Request timed out")
BODY_TOO_LARGE: Final = GatewayCode(413, "APIGW.0201", "Request body too large")
URI_TOO_LONG: Final = GatewayCode(414, "APIGW.0201", "Request URI too long")
THROTTLED: Final = GatewayCode(429, "APIGW.0308", "The throttling threshold has been reached")
HEADERS_TOO_LARGE: Final = GatewayCode(494, "APIGW.0201", "Request headers too large")
INTERNAL: Final = GatewayCode(500, "CCE.01500001", "Internal error")
PROVIDER_UNAVAILABLE: Final = GatewayCode(503, "CCE.01503001", "Nobody can tell now whether the token is valid")


class GatewayError(Exception):
    """End the request with this code; ``detail`` is shown to the caller."""

    def __init__(self, code: GatewayCode, detail: str = "", *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code.message}: {detail}" if detail else code.message)
        self.code = code
        self.detail = detail
        self.headers = headers


def error_body(code: GatewayCode, *, request_id: str, detail: str = "") -> bytes:
    """Return the JSON object of a refusal: code and message in both spellings, and the request's id."""
    message = f"{code.message}: {detail}" if detail else f"{code.message}."
    return orjson.dumps(
        {
            "error_code": code.code,
            "error_msg": message,
            "errorCode": code.code,
            "errorMessage": message,
            "request_id": request_id,
        }
    )


def error_response(
    code: GatewayCode, *, request_id: str, detail: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Return the complete response of a refusal; the request-id middleware adds ``X-Request-Id``."""
    return Response(
        error_body(code, request_id=request_id, detail=detail),
        status_code=code.status,
        headers=headers,
        media_type="application/json",
    )


def answer_to(
    scope: Scope,
    code: GatewayCode,
    *,
    detail: str = "",
    headers: Mapping[str, str] | None = None,
    root: str = "",
) -> Response:
    """Return the response of a refusal: a page for a browser, which asks for HTML and has no credentials of the API.

    ``root``: the path that browsers have in front of each of ours.
    """
    received = dict(scope["headers"])
    is_browser = b"text/html" in received.get(b"accept", b"") and not {b"authorization", b"x-auth-token"} & set(
        received
    )
    if not is_browser:
        return error_response(code, request_id=request_id(scope), detail=detail, headers=headers)
    said = {"title": code.message, "code": code.code, "detail": detail, "request_id": request_id(scope), "root": root}
    text = _PAGE.format(**{name: escape(value) for name, value in said.items()})
    return HTMLResponse(text, status_code=code.status, headers={**_PAGE_HEADERS, **(headers or {})})


#: Looks like the console's, whose style sheet it uses; it loads nothing else and runs nothing.
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Pilothouse</title>
<link rel="stylesheet" href="{root}/console/static/console.css">
</head>
<body>
<main>
<section class="card narrow">
<h1>{title}</h1>
<div class="notice bad" role="alert"><div><strong>{code}</strong><p class="said">{detail}</p></div></div>
<p class="hint">Request <code>{request_id}</code>.</p>
<p class="actions"><a class="button" href="{root}/console/">To the console</a></p>
</section>
</main>
</body>
</html>
"""
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}


async def route_not_found(request: Request, _error: Exception) -> Response:
    """Answer 404 APIGW.0101, for both 404 and 405, which the vendor does not distinguish."""
    called = f"{request.method} {request.scope['path']}"[:_LONGEST_ECHO]
    return error_response(NO_SUCH_API, request_id=request_id(request.scope), detail=called)


async def internal_error(request: Request, _error: Exception) -> Response:
    """Answer 500 CCE.01500001 without the cause; the exception handler for ``Exception``.

    Starlette raises the exception again after this answer, and the request-id middleware logs it.
    """
    root = getattr(request.app.state, "root_path", "")
    return answer_to(request.scope, INTERNAL, detail=see_the_log(request_id(request.scope)), root=root)


def see_the_log(request_id_: str) -> str:
    """Return the caller's message for a failure whose cause only the operator may read."""
    return f"the server's log has the cause under request id {request_id_}"


def request_id(scope: Mapping[str, Any]) -> str:
    """Return the id that the request-id middleware gave this request; empty outside of it."""
    return str(scope.get("state", {}).get("request_id", ""))

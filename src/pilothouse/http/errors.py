"""One table of domain errors with their status and code in the vendor's API.

Every body is a JSON object with code and message in both spellings: the Python and Go clients read
``errorCode``/``errorMessage``, the Java and Node ones ``error_code``/``error_msg``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from pilothouse import errors
from pilothouse.http.audit import note_denial
from pilothouse.redaction import redact

log = structlog.get_logger(__name__)

#: Looked up along the error's classes, so the nearest class wins.
_TABLE: dict[type[errors.PilothouseError], tuple[int, str]] = {
    errors.UnsupportedContentType: (400, "CCE.01400006"),
    errors.InvalidRequest: (400, "CCE.01400001"),
    errors.QuotaExceeded: (400, "CCE.01400001"),
    errors.NotAuthenticated: (401, "APIGW.0301"),
    errors.Forbidden: (403, "CCE.01403001"),
    errors.NotFound: (404, "CCE.01404001"),
    errors.AlreadyExists: (409, "CCE.01409001"),
    errors.AlreadyEnded: (409, "CCE.01409002"),
    errors.PlanMoved: (409, "CCE.01409003"),
    errors.ChartReplaced: (409, "CCE.01409004"),
    errors.ReleaseMoved: (409, "CCE.01409005"),
    errors.AtWorkElsewhere: (409, "CCE.01409006"),
    errors.BodyTooLarge: (413, "APIGW.0201"),
    errors.KeyUsed: (422, "CCE.01422001"),
    errors.Busy: (429, "APIGW.0308"),
    errors.TransactionConflict: (429, "APIGW.0308"),
    # For clusters 502 and 503 would be nearer too, but the vendor's clients, which have no sources, hide their bodies.
    errors.SourceUnavailable: (502, "CCE.01502001"),
    errors.ProviderUnavailable: (503, "CCE.01503001"),
    errors.PilothouseError: (500, "CCE.01500001"),
}


#: What the native API tells apart by ``reason``, where the vendor's code is the same; the nearest class wins.
_REASONS: dict[type[errors.PilothouseError], str] = {
    errors.InvalidArgument: "argument",
    errors.PlannedReleaseMoved: "release_moved",
    errors.ReleaseMoved: "release_moved",
    errors.ClusterMissing: "cluster_not_found",
    errors.ReleaseMissing: "release_not_found",
    errors.NeverInstalled: "release_not_installed",
}
_OTHER = "The server, its database or a cluster failed; the message says which, and the log has the request's id."


def statuses() -> list[tuple[int, str, str]]:
    """Return each status with its code and meaning, for documentation, sorted."""
    return sorted((status, code, _when(kind)) for kind, (status, code) in _TABLE.items())


def describe_error(kind: type[errors.PilothouseError]) -> tuple[int, str]:
    """Return the status of that error, and when it is answered."""
    return _TABLE[kind][0], _when(kind)


def reasons() -> list[tuple[str, int, str, str]]:
    """Return each reason with the status, code and meaning of the errors that it is told of, for documentation."""
    return [(reason, *status_of(kind("")), _when(kind)) for kind, reason in _REASONS.items()]


def _when(kind: type[errors.PilothouseError]) -> str:
    return (kind.__doc__ or "").splitlines()[0] if kind is not errors.PilothouseError else _OTHER


def status_of(error: errors.PilothouseError) -> tuple[int, str]:
    """Return status and code of a domain error."""
    return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)


def _reason_of(error: errors.PilothouseError) -> str:
    """Return what kind of refusal it is beyond its code; empty if the code says all."""
    return next((_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS), "")


def error_body(code: str, message: str, **more: str) -> bytes:
    """Return the JSON object that every client of the vendor's API understands; ``more``: members besides."""
    fields = {"errorCode": code, "errorMessage": message, "error_code": code, "error_msg": message}
    return orjson.dumps({**fields, **more})


@dataclass(frozen=True)
class Refusal:
    """What a client is told of a domain error, as JSON or on a page; ``fields``: at which fields of a page's form.

    ``rest``: what is about none. ``unsure``: the form may have been carried out.
    """

    status: int
    code: str
    text: str
    headers: dict[str, str]
    fields: Mapping[str, str] = field(default_factory=dict)
    rest: str = ""
    unsure: bool = False


def refuse(error: errors.PilothouseError) -> Refusal:
    """Return what a client is told of the error; a failure of ours is logged."""
    status, code = status_of(error)
    headers = {}
    if isinstance(error, errors.Busy | errors.TransactionConflict):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    text = redact(str(error))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, errors.CallerGone):
        detail = redact(error.detail) if isinstance(error, errors.ClusterUnavailable | errors.SourceUnavailable) else ""
        more = {"detail": detail} if detail else {}
        if isinstance(error, errors.SourceUnavailable):  # no fault of this server
            log.warning("request_failed", error=type(error).__name__, cause=text, **more)
        else:
            log.error("request_failed", error=type(error).__name__, cause=text, **more)
    return Refusal(status, code, text, headers)


def error_response(error: errors.PilothouseError, *, native: bool = False) -> Response:
    """Return the vendor's answer for a domain error; the native API's says the reason, too."""
    refusal = refuse(error)
    body = error_body(refusal.code, refusal.text, **({"reason": _reason_of(error)} if native else {}))
    return Response(body, status_code=refusal.status, media_type="application/json", headers=refusal.headers)


def mark_native(request: Request) -> None:
    """Remember that a route of the native API answers this request."""
    request.state.native = True


def is_native(request: Request) -> bool:
    """Return whether a route of the native API answers this request."""
    return bool(getattr(request.state, "native", False))


async def handle(request: Request, error: Exception) -> Response:
    """Handle domain errors raised by a route."""
    if not isinstance(error, errors.PilothouseError):
        raise error
    note_denial(request, error)
    return error_response(error, native=is_native(request))

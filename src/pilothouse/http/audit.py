"""Audit of requests that change nothing: refusals, dry runs, reads of values, downloads."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request

from pilothouse.errors import NotPermitted, PilothouseError
from pilothouse.http.requests import caller_of, request_id_of, service_of
from pilothouse.services.admin.audit import Audit
from pilothouse.store.audit import Outcome


def note_read(request: Request, action: str, *, target: str, target_name: str, detail: str = "") -> None:
    """Record that the caller has read something that is audited."""
    service_of(request, Audit).note(
        caller_of(request),
        action,
        target=target,
        target_name=target_name,
        detail=detail,
        request_id=request_id_of(request),
        often=True,
    )


def note_denial(request: Request, error: Exception) -> None:
    """Record a refusal, if the error says that the caller's roles did not allow it."""
    if not isinstance(error, NotPermitted) or "caller" not in request.scope["state"]:
        return
    service_of(request, Audit).note(
        caller_of(request),
        error.action,
        outcome=Outcome.DENIED,
        detail=f"{request.method} {request.scope['path']}"[:200],
        request_id=request_id_of(request),
    )


@contextmanager
def dry_run_noted(request: Request, action: str, *, target: str, target_name: str, wanted: bool) -> Iterator[None]:
    """Record the block as a dry run if ``wanted``, whether it succeeds or not, unless it is refused."""
    detail = "dry run"
    try:
        yield
    except NotPermitted:
        wanted = False
        raise
    except PilothouseError:
        detail = "dry run, which failed"
        raise
    finally:
        if wanted:
            service_of(request, Audit).note(
                caller_of(request),
                action,
                target=target,
                target_name=target_name,
                detail=detail,
                request_id=request_id_of(request),
            )

"""Audit of requests that change nothing: refusals, dry runs, reads of values, downloads."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

import orjson
from fastapi import Request

from pilothouse.auth.policy import READ_LOGS
from pilothouse.errors import InvalidArgument, NotPermitted, PilothouseError
from pilothouse.http.release_queries import MARKER
from pilothouse.http.requests import caller_of, request_id_of, service_of
from pilothouse.http.time_markers import read_time_marker, write_time_marker
from pilothouse.services.admin.audit import Audit
from pilothouse.services.admin.audit_export import ExportPage
from pilothouse.store.audit import AuditPlace, AuditRow, Outcome
from pilothouse.store.operations import OperationRow, release_key

_IN_CLUSTER: Final = ("namespace", "name")
#: What paths call some kinds.
_OTHERWISE: Final = {"verification": "source"}


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


def note_logs(request: Request, row: OperationRow) -> None:
    """Record that the caller has read lines of logs that the operation has kept."""
    key = release_key(row.cluster_id, row.namespace, row.release_name)
    note_read(request, READ_LOGS, target=key, target_name=row.release_name, detail=f"logs of operation {row.id}")


def note_denial(request: Request, error: Exception, *, place: tuple[str, str, str] | None = None) -> None:
    """Record a refusal, if the error says that the caller's roles did not allow it.

    ``place``: cluster, namespace and name of the release that it is about, if the address does not name it.
    """
    if not isinstance(error, NotPermitted) or "caller" not in request.scope["state"]:
        return
    target, name = _named(request, error.action, place or error.place)
    service_of(request, Audit).note(
        caller_of(request),
        error.action,
        outcome=Outcome.DENIED,
        target=target,
        target_name=name,
        detail=f"{request.method} {request.scope['path']}"[:200],
        request_id=request_id_of(request),
    )


def _named(request: Request, action: str, place: tuple[str, str, str] | None) -> tuple[str, str]:
    """Return key and name of the release that the address names, its cluster as it stands there.

    Of what is no release the name alone, or an id, as far as the address has what the action is about.
    """
    named = request.path_params
    words = place or (
        named.get("cluster") or named.get("cluster_id", ""),
        *(named.get(name, "") for name in _IN_CLUSTER),
    )
    if all(words):
        return "/".join(words)[:300], words[-1][:200]
    noun = action.partition(":")[2].partition(":")[0].removesuffix("s")
    names = (noun, f"{noun}_id", _OTHERWISE.get(noun, ""))
    return "", next((str(named[name])[:200] for name in names if name in named), "")


#: JSON lines: an object on each.
LINES: Final = "application/x-ndjson"
#: Of the rows that a marker can name.
_ID: Final = re.compile(r"[1-9][0-9]{0,18}")
_LARGEST: Final = 2**63 - 1


async def lines_of(pages: AsyncIterator[ExportPage]) -> AsyncIterator[bytes]:
    """Yield the rows as JSON lines with the fields that the API's list has.

    The last line of an export that has reached its limit is ``{"marker": …}``, with which the next one goes on. One
    that fails half-way, or whose caller may not read it any more, breaks off, so that nobody takes it for the whole.
    """
    async for page in pages:
        text = b"".join(orjson.dumps(_line(row), option=orjson.OPT_APPEND_NEWLINE) for row in page.rows)
        if page.cut is not None:
            text += orjson.dumps({"marker": write_place(page.cut)}, option=orjson.OPT_APPEND_NEWLINE)
        if text:
            yield text


def write_place(place: AuditPlace) -> str:
    """Return the marker of a place in the list, which a query takes as it is."""
    return write_time_marker(place.at, place.id)


def read_place(marker: str) -> AuditPlace | None:
    """Return the place of a marker; None for none, InvalidRequest for what is not one."""
    if not marker:
        return None
    found = read_time_marker(marker)
    if found is None or not _ID.fullmatch(found[1]) or int(found[1]) > _LARGEST:
        raise InvalidArgument(f"marker: {marker[:100]!r} is not a value of {MARKER}; begin without one")
    return AuditPlace(found[0], int(found[1]))


def _line(row: AuditRow) -> dict[str, object]:
    return {
        "id": row.id,
        "at": row.at.isoformat(timespec="milliseconds"),
        "user_id": row.user_id,
        "user": row.user_name,
        "project_id": row.project_id,
        "project": row.project_name,
        "address": row.source,
        "action": row.action,
        "target": row.target,
        "target_name": row.target_name,
        "outcome": row.outcome,
        "detail": row.detail,
        "times": row.times,
        "request_id": row.request_id,
        "operation_id": row.operation_id,
    }


@contextmanager
def dry_run_noted(request: Request, action: str, *, target: str, target_name: str, requested: bool) -> Iterator[None]:
    """Record the block as a dry run if ``requested``, whether it succeeds or not, unless it is refused."""
    detail = "dry run"
    try:
        yield
    except NotPermitted:
        requested = False
        raise
    except PilothouseError:
        detail = "dry run, which failed"
        raise
    finally:
        if requested:
            service_of(request, Audit).note(
                caller_of(request),
                action,
                target=target,
                target_name=target_name,
                detail=detail,
                request_id=request_id_of(request),
            )

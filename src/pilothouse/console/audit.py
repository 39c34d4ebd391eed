"""The audit log of the account, for its administrators."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pilothouse.console import words
from pilothouse.console.rendering import HEADERS, page
from pilothouse.console.requests import caller_of, here, not_a_day, not_one_of
from pilothouse.http.audit import LINES, lines_of, note_read, read_place, write_place
from pilothouse.http.requests import service_of
from pilothouse.services.admin.audit import READS, Audit
from pilothouse.services.admin.audit_export import AuditExport
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.states import OperationState
from pilothouse.store.audit import AuditFilter, AuditPlace, AuditRow, Outcome

_PAGE: Final = 50
#: A release has a namespace and a name below its cluster.
_OF_RELEASE: Final = 2
#: What the rows say: the state of the operation that was ordered, else the outcome.
_SHOWN: Final = tuple(dict.fromkeys([*map(str, Outcome), *map(str, OperationState)]))
_FIELDS: Final = ("user", "action", "target", "outcome", "from", "to", "reads")


async def list_rows(request: Request) -> Response:
    """List who did what, newest first; reads only if asked for."""
    caller, query, after = caller_of(request), _given(request), _place_of(request)
    audit = service_of(request, Audit)
    found = await audit.list_rows(caller, _filters(query), after=after, limit=_PAGE)
    context = await audit.tell_of(caller, found.rows)
    return await page(
        request,
        "audit.html",
        next=_link(caller, query, marker=write_place(found.next)) if found.next is not None else "",
        export=_link(caller, query, "/export"),
        rows=found.rows,
        states=context.states,
        places={row.id: _place(row, context.clusters) for row in found.rows},
        given=query,
        outcomes={word: words.outcome(word) if word in set(Outcome) else words.state(word) for word in _SHOWN},
        is_first=after is None,
    )


async def export(request: Request) -> Response:
    """Send all rows that match as JSON lines, for whoever keeps them elsewhere."""
    caller, filters = caller_of(request), _filters(_given(request))
    caller.require_in_account("pilothouse:audit:read")
    note_read(
        request, "pilothouse:audit:read", target=caller.domain_id, target_name=caller.domain_name, detail="export"
    )
    pages = service_of(request, AuditExport).pages(caller, filters, after=_place_of(request))
    saved = {"Content-Disposition": f'attachment; filename="audit-{datetime.now(UTC):%Y-%m-%d}.jsonl"'}
    return StreamingResponse(lines_of(pages), media_type=LINES, headers=HEADERS | saved)


def _given(request: Request) -> dict[str, str]:
    query = {name: request.query_params.get(name, "").strip() for name in _FIELDS}
    if query["outcome"] and query["outcome"] not in _SHOWN:
        raise not_one_of("outcome", query["outcome"], _SHOWN)
    return query


def _filters(query: dict[str, str]) -> AuditFilter:
    filters: dict[str, Any] = {name: query[name] or None for name in ("user", "action", "target")}
    # who names an action is shown it, whatever it is
    without = () if query["reads"] or query["action"] else READS
    filters["shown"] = query["outcome"] or None
    return AuditFilter(**filters, since=_day(query, "from"), until=_day(query, "to", after=1), without=without)


def _day(query: dict[str, str], name: str, *, after: int = 0) -> datetime | None:
    """Return when that day begins, UTC, or one so many days ``after``; None for no day."""
    if not query[name]:
        return None
    try:
        return datetime.combine(date.fromisoformat(query[name]) + timedelta(days=after), time(), UTC)
    except (ValueError, OverflowError):
        raise not_a_day(name, query[name]) from None


def _place(row: AuditRow, clusters: dict[str, str]) -> tuple[str, str, str]:
    """Return the cluster and the namespace of what was acted on, and the release if it is one; empty for none."""
    cluster_id, *below = row.target.split("/")
    if cluster_id not in clusters:
        return "", "", ""
    return clusters[cluster_id], below[0] if below else "", below[1] if len(below) >= _OF_RELEASE else ""


def _place_of(request: Request) -> AuditPlace | None:
    return read_place(request.query_params.get("marker", ""))


def _link(caller: Caller, given: dict[str, str], below: str = "", **more: str) -> str:
    query = urlencode({name: value for name, value in (given | more).items() if value})
    return f"{here(caller)}/audit{below}" + (f"?{query}" if query else "")


ROUTES: Final = [
    Route("/audit", list_rows, methods=["GET"]),
    Route("/audit/export", export, methods=["GET"]),
]

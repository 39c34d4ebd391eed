"""Operations: list, show, cancel, and follow what happens."""

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.types import Receive, Scope, Send

from pilothouse.errors import Forbidden, InvalidRequest, NotAuthenticated, NotFound
from pilothouse.http.json_bodies import read_json
from pilothouse.http.openapi import asks, takes
from pilothouse.http.requests import caller_of, json_response, request_id_of
from pilothouse.services.operations.cancel import Cancellations
from pilothouse.services.operations.read import Operations
from pilothouse.shares import Counted
from pilothouse.states import OperationState
from pilothouse.store.operation_events import EventRow
from pilothouse.store.operations import OperationRow

_MOST = 500
_YEARS = range(1970, 9999)  # near the ends of the calendar a time zone leads out of it
_ID = re.compile(r"[0-9a-f-]{32,36}")
_MARKER = "X-Pilothouse-Marker"
_STREAM = "text/event-stream"


class OperationView(BaseModel):
    """An operation; ``revision`` is the one that it writes or wrote, ``text`` how it stands or how it ended."""

    id: str
    action: str
    state: str
    cluster_id: str
    namespace: str
    release: str
    revision: int | None
    chart_id: str
    chart: str
    text: str
    last_error: str
    attempt: int
    crashes: int
    worker: str
    user_id: str
    request_id: str
    timeout_seconds: int
    created_at: str
    started_at: str | None
    cancelling_at: str | None
    finished_at: str | None


class CancelOperation(BaseModel):
    """``keep``: what an install has made so far stays, as a failed release; else it is uninstalled."""

    model_config = ConfigDict(extra="forbid", strict=True)

    keep: bool = False


class EventView(BaseModel):
    """Something that happened on the way; ``kind`` and ``data`` are for programs, ``text`` is for people."""

    id: int
    at: str
    attempt: int
    kind: str
    text: str
    data: dict[str, Any] | None


def routes(operations: Operations, cancellations: Cancellations, *, streams: Counted) -> APIRouter:
    """The routes about operations; ``streams`` counts the event streams of each user."""
    router = APIRouter(prefix="/api/v1", tags=["operations"])

    @router.get(
        "/operations",
        response_model=list[OperationView],
        openapi_extra=asks(
            cluster_id="only of this cluster",
            namespace="only of this namespace",
            release="only of the release of this name",
            state=f"only in this state: {', '.join(OperationState)}",
            limit=f"1 to {_MOST}, else 100",
            marker=f"goes on where {_MARKER} of the part before says",
        ),
    )
    async def list_operations(request: Request) -> Response:
        """The project's operations, newest first; the query may name cluster_id, namespace, release and state.

        `limit` (1 to 500, else 100) and `marker`, which the header X-Pilothouse-Marker of the part before gave.
        """
        query = request.query_params
        state = query.get("state") or None
        if state is not None and state not in tuple(OperationState):
            raise InvalidRequest(f"state: {state[:100]!r} is not one of {', '.join(OperationState)}")
        page = await operations.list_operations(
            caller_of(request),
            cluster_id=query.get("cluster_id") or None,
            namespace=query.get("namespace") or None,
            release_name=query.get("release") or None,
            state=state,
            before=_marker(query.get("marker", "")),
            limit=_number("limit", query.get("limit", ""), default=100, least=1, most=_MOST),
        )
        headers = {_MARKER: f"{page.next[0].isoformat()}/{page.next[1]}"} if page.next else None
        return json_response([_view(row) for row in page.operations], headers=headers)

    @router.get("/operations/{operation_id}", response_model=OperationView)
    async def show_operation(request: Request, operation_id: str) -> Response:
        """One operation."""
        return json_response(_view(await operations.show(caller_of(request), operation_id)))

    @router.post(
        "/operations/{operation_id}/cancel",
        response_model=OperationView,
        openapi_extra=takes(CancelOperation, required=False),
    )
    async def cancel_operation(request: Request, operation_id: str) -> Response:
        """Cancels an operation: a queued one never begins, a running one is stopped and undone.

        An install is uninstalled, or kept as a failed release; an upgrade or a rollback goes back to the revision that
        was deployed before; an uninstall too while all of the release still stands, else it is finished. The answer is
        the operation, `cancelled` or `cancelling`; 409 when it has ended.
        """
        await cancellations.check(caller_of(request), operation_id)
        wanted = await read_json(request, CancelOperation, default=CancelOperation())
        row = await cancellations.cancel(
            caller_of(request), operation_id, keep=wanted.keep, request_id=request_id_of(request)
        )
        return json_response(_view(row))

    @router.get(
        "/operations/{operation_id}/events",
        response_model=list[EventView],
        openapi_extra=asks(after="only events after the one of this id"),
    )
    async def list_events(request: Request, operation_id: str) -> Response:
        """What happened, oldest first, after the event whose id `after` names.

        With `Accept: text/event-stream` as server-sent events, until the operation is final; `Last-Event-ID` resumes.
        The last one is `end`, or `refused` when the caller may no longer see the operation, which is asked every 10 s.
        """
        query, headers = request.query_params, request.headers
        after = _number("after", headers.get("last-event-id") or query.get("after", ""), default=0, most=2**62)
        caller = caller_of(request)
        await operations.show(caller, operation_id)  # what is wrong is told before the stream begins
        if _STREAM not in headers.get("accept", ""):
            found = await operations.list_events(caller, operation_id, after=after)
            return json_response([_event(row) for row in found])
        followed = operations.follow(caller, operation_id, after=after)
        streams.add(caller.user_id, 1)
        return _Stream(followed, on_end=lambda: streams.remove(caller.user_id, 1))

    return router


class _Stream(StreamingResponse):
    """A stream of events; ``on_end`` is called once, however it ends, also if it is never begun."""

    def __init__(self, events: AsyncIterator[EventRow | None], *, on_end: Callable[[], None]) -> None:
        super().__init__(_stream(events), media_type=_STREAM, headers={"Cache-Control": "no-store"})
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


async def _stream(events: AsyncIterator[EventRow | None]) -> AsyncIterator[bytes]:
    """WHATWG HTML, section 9.2; the last message tells a client not to come back, or why nothing more is told."""
    try:
        async for event in events:
            if event is None:
                yield b": nothing new\n\n"
            else:
                said = orjson.dumps(_event(event))
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.kind.encode(), said)
    except (NotAuthenticated, Forbidden, NotFound) as error:
        yield b"event: refused\ndata: %s\n\n" % orjson.dumps({"text": str(error)})
        return
    yield b"event: end\ndata: {}\n\n"


def _view(row: OperationRow) -> dict[str, object]:
    return OperationView(
        id=row.id,
        action=row.action,
        state=row.state,
        cluster_id=row.cluster_id,
        namespace=row.namespace,
        release=row.release_name,
        revision=row.revision,
        chart_id=row.chart_id,
        chart=f"{row.chart_name}-{row.chart_version}",
        text=row.status_description,
        last_error=row.last_error,
        attempt=row.attempt,
        crashes=row.crashes,
        worker=row.worker,
        user_id=row.user_id,
        request_id=row.request_id,
        timeout_seconds=row.deadline_seconds,
        created_at=_time(row.created_at) or "",
        started_at=_time(row.started_at),
        cancelling_at=_time(row.cancelling_at),
        finished_at=_time(row.finished_at),
    ).model_dump()


def _event(row: EventRow) -> dict[str, object]:
    at = _time(row.at) or ""
    return EventView(id=row.id, at=at, attempt=row.attempt, kind=row.kind, text=row.text, data=row.data).model_dump()


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment is not None else None


def _number(name: str, text: str, *, default: int, least: int = 0, most: int) -> int:
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or not least <= int(text) <= most:
        raise InvalidRequest(f"{name}: {text[:100]!r} is not a whole number from {least} to {most}")
    return int(text)


def _marker(text: str) -> tuple[datetime, str] | None:
    if not text:
        return None
    moment, _, operation_id = text.partition("/")
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or at.year not in _YEARS or not _ID.fullmatch(operation_id):
        raise InvalidRequest(f"marker: {text[:100]!r} is not one that an answer gave in {_MARKER}")
    return at, operation_id

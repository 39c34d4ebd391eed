"""Operations: list, show, cancel, and follow their events."""

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import Header, Query, Request, Response
from pydantic import Field

from pilothouse import errors
from pilothouse.api.v1.dependencies import Check, CurrentCaller, RequestId, service
from pilothouse.api.v1.models import GOES_ON, PAGED, Body, Limit, Milliseconds, OptionalBlank, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.errors import Busy, Forbidden, InvalidArgument, NotAuthenticated, NotFound
from pilothouse.http.audit import note_logs
from pilothouse.http.event_streams import MEDIA_TYPE, EventStreams
from pilothouse.http.release_queries import MARKER
from pilothouse.http.requests import caller_of, service_of
from pilothouse.http.time_markers import read_time_marker, write_time_marker
from pilothouse.services.operations.cancel import Cancellations
from pilothouse.services.operations.read import Operations
from pilothouse.states import Action, OperationState
from pilothouse.store.operation_events import HOOK_LOG, EventRow
from pilothouse.store.operations import OperationRow

_ID = re.compile(r"[0-9a-f-]{32,36}")

router = native_router("/api/v1/operations", tag="operations")
OperationsService = Annotated[Operations, service(Operations)]
CancellationsService = Annotated[Cancellations, service(Cancellations)]


class OperationView(View):
    """An operation; ``revision`` is the one that it writes or wrote, ``text`` its status or result.

    ``progress``: what it does at this moment, such as what it waits for; empty if that is not known or it does not run,
    and in answers of writes. ``chart_digest``: SHA-256 of the chart's archive, to which it is pinned; null without a
    chart.
    """

    id: str
    action: Action
    state: OperationState
    cluster_id: str
    namespace: str
    release: Annotated[str, Field(validation_alias="release_name")]
    revision: int | None
    chart_id: str
    chart: str
    chart_digest: str | None
    text: Annotated[str, Field(validation_alias="status_description")]
    progress: str
    last_error: str
    attempt: int
    crashes: int
    worker: str
    user_id: str
    request_id: str
    timeout_seconds: Annotated[int, Field(validation_alias="deadline_seconds")]
    created_at: Milliseconds
    started_at: Milliseconds | None
    cancelling_at: Milliseconds | None
    finished_at: Milliseconds | None


class CancelOperation(Body):
    """``keep``: what an install has created so far stays, as a failed release; else it is uninstalled."""

    keep: bool = False


class EventView(View):
    """An event; ``kind`` and ``data`` are for programs, ``text`` is for people."""

    id: int
    at: Milliseconds
    attempt: int
    kind: str
    text: str
    data: dict[str, Any] | None


async def _may_cancel(request: Request) -> None:
    await service_of(request, Cancellations).check(caller_of(request), request.path_params["operation_id"])


@router.get("", response_model=list[OperationView], responses=PAGED)
async def list_operations(
    *,
    response: Response,
    caller: CurrentCaller,
    operations: OperationsService,
    cluster_id: Annotated[str, Query(description="only of this cluster")] = "",
    namespace: Annotated[str, Query(description="only of this namespace")] = "",
    release: Annotated[str, Query(description="only of the release of this name")] = "",
    state: Annotated[OperationState | None, Query(description="only in this state"), OptionalBlank] = None,
    limit: Limit = 100,
    marker: Annotated[str, Query(description=GOES_ON)] = "",
) -> list[dict[str, object]]:
    """List the project's operations, newest first."""
    page = await operations.list_operations(
        caller,
        cluster_id=cluster_id or None,
        namespace=namespace or None,
        release_name=release or None,
        state=state,
        before=_marker(marker),
        limit=limit,
    )
    if page.next is not None:
        response.headers[MARKER] = write_time_marker(*page.next)
    progress = await operations.list_progress(caller, page.operations)
    return [operation_view(row, progress.get(row.id, "")) for row in page.operations]


@router.get("/{operation_id}", response_model=OperationView)
async def show_operation(operation_id: str, caller: CurrentCaller, operations: OperationsService) -> dict[str, object]:
    """Show one operation."""
    row = await operations.show(caller, operation_id)
    return operation_view(row, (await operations.list_progress(caller, [row])).get(row.id, ""))


@router.post(
    "/{operation_id}/cancel",
    response_model=OperationView,
    dependencies=[Check(_may_cancel)],
    responses=error_responses(errors.AlreadyEnded),
)
async def cancel_operation(
    operation_id: str,
    caller: CurrentCaller,
    cancellations: CancellationsService,
    request_id: RequestId,
    body: CancelOperation = CancelOperation(),  # noqa: B008 - never changed
) -> dict[str, object]:
    """Cancel an operation: a queued one never begins, a running one is stopped and undone.

    An install is uninstalled, or kept as a failed release; an upgrade or rollback goes back to the revision that was
    deployed before; so does an uninstall while every object of the release exists, otherwise it is completed. The
    answer is the operation, `cancelled` or `cancelling`; 409 if it has ended.
    """
    return operation_view(await cancellations.cancel(caller, operation_id, keep=body.keep, request_id=request_id))


@router.get(
    "/{operation_id}/events",
    response_model=list[EventView],
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)
async def list_events(
    *,
    request: Request,
    operation_id: str,
    caller: CurrentCaller,
    operations: OperationsService,
    streams: Annotated[EventStreams, service(EventStreams)],
    after: Annotated[int, Query(ge=0, le=2**62, description="only events after the one of this id"), OptionalBlank] = 0,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=2**62, description="the same, which comes before `after`"), OptionalBlank
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> list[EventRow] | Response:
    """List the events after the one with the id `after`, oldest first.

    With `Accept: text/event-stream` as server-sent events, until the operation is final; `Last-Event-ID` resumes. The
    last one is `end`, or `refused` if the caller may no longer see the operation, which is checked every 10 s.
    """
    after = after if last_event_id is None else last_event_id
    row = await operations.show(caller, operation_id)  # what is wrong is told before the stream begins
    if MEDIA_TYPE in accept:
        followed = operations.follow(caller, operation_id, after=after)
        return streams.open(caller, _stream(followed, note_logs=partial(note_logs, request, row)))
    found = await operations.list_events(caller, operation_id, after=after)
    if any(event.kind == HOOK_LOG for event in found):
        note_logs(request, row)
    return found


async def _stream(events: AsyncIterator[EventRow | None], *, note_logs: Callable[[], None]) -> AsyncIterator[bytes]:
    """Encode as WHATWG HTML, section 9.2; the last message tells a client not to reconnect, or why it ends."""
    try:
        async for event in events:
            if event is None:
                yield b": nothing new\n\n"
            else:
                if event.kind == HOOK_LOG:
                    note_logs()
                encoded = EventView.model_validate(event).model_dump_json().encode()
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.kind.encode(), encoded)
    except (NotAuthenticated, Forbidden, NotFound) as error:
        yield b"event: refused\ndata: %s\n\n" % orjson.dumps({"text": str(error)})
        return
    except Busy:
        return  # without a last message: the client comes again with the last id, and is told then
    yield b"event: end\ndata: {}\n\n"


def operation_view(row: OperationRow, progress: str = "") -> dict[str, object]:
    """Return what ``OperationView`` is made from."""
    return {**vars(row), "progress": progress, "chart": f"{row.chart_name}-{row.chart_version}"}


def _marker(text: str) -> tuple[datetime, str] | None:
    if not text:
        return None
    found = read_time_marker(text)
    if found is None or not _ID.fullmatch(found[1]):
        raise InvalidArgument(f"marker: {text[:100]!r} is not a value of {MARKER}")
    return found

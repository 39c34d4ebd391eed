"""Operations: the queue, and one operation as it runs, is cancelled, or failed."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.hook_logs import MOST_EVENTS as MOST_LOG_EVENTS
from pilothouse.console.hook_logs import add_newest, logs_of
from pilothouse.console.rendering import fragment, is_partial, page, refusal
from pilothouse.console.requests import caller_of, here, not_one_of, read_form, see_other, wrong
from pilothouse.console.streams import END, QUIET, REFUSED, Shared, message
from pilothouse.console.texts import Texts, gettext, gettext_noop, spoken
from pilothouse.errors import Busy, Forbidden, NotAuthenticated, NotFound, PilothouseError
from pilothouse.http.audit import note_logs
from pilothouse.http.errors import Refusal
from pilothouse.http.event_streams import EventStreams
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.http.time_markers import read_time_marker, write_time_marker
from pilothouse.services.clusters import Clusters
from pilothouse.services.operations.cancel import Cancellations
from pilothouse.services.operations.logs import sees_logs
from pilothouse.services.operations.read import Operations
from pilothouse.services.releases.details import ReleaseDetails, ReleaseRef
from pilothouse.services.releases.plans import Plans
from pilothouse.states import LIVING_STATES, Action, OperationState, ReleaseStatus
from pilothouse.store.operation_events import HOOK_LOG, EventRow
from pilothouse.store.operations import OperationRow

_PAGE: Final = 50
_LIST: Final = "cce:operation:list"
_GET: Final = "cce:release:get"
#: What writes a revision over another.
_COMPARED: Final = frozenset({Action.INSTALL, Action.UPGRADE, Action.ROLLBACK})
_MOST_EVENTS: Final = 300
#: Between two messages of a stream, each of which is the whole operation.
_APART_SECONDS: Final = 1.0
_OF_HOW_MANY: Final = re.compile(r"\b(\d{1,6}) of (\d{1,6})\b")
OPERATION_ID: Final = re.compile(r"[0-9a-f-]{32,36}")
#: Which part of an evidence holds what, for evidence that cannot be read.
_PARTS: Final = ("blocking", "conflicts", "objects", "pods", "events", "missing")
_MAY_CANCEL: Final[dict[str, str]] = {
    Action.INSTALL: "cce:release:create",
    Action.UPGRADE: "cce:release:update",
    Action.ROLLBACK: "cce:release:update",
    Action.UNINSTALL: "cce:release:delete",
    Action.TEST: "cce:release:update",
}
#: What becomes of the release, before anybody orders it.
CONSEQUENCES: Final = Texts({
    Action.INSTALL: gettext_noop(
        "What it has created so far is uninstalled, or kept as a failed release if you choose so."
    ),
    Action.UPGRADE: gettext_noop(
        "The release goes back to the revision that was deployed before; without one it stays failed."
    ),
    Action.ROLLBACK: gettext_noop(
        "The release goes back to the revision that was deployed before; without one it stays failed."
    ),
    Action.UNINSTALL: gettext_noop(
        "The release is restored if every object of it still exists; otherwise its removal is completed."
    ),
    Action.TEST: gettext_noop("What the tests have started is removed; the release stays as it is."),
})  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """How far an operation is, in the words of its last report; ``done`` of ``total`` if it says so."""

    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class _Events:
    """The newest events of an operation, oldest first, and those with lines of logs by themselves."""

    told: list[EventRow]
    logs: list[EventRow]

    @property
    def last(self) -> int:
        """The id of the newest."""
        return max((events[-1].id for events in (self.told, self.logs) if events), default=0)

    def with_more(self, more: list[EventRow]) -> "_Events":
        """Return these with newer ones."""
        logs = [event for event in more if event.kind == HOOK_LOG]
        others = [event for event in more if event.kind != HOOK_LOG]
        return _Events([*self.told, *others][-_MOST_EVENTS:], add_newest(self.logs, logs))


@dataclass(frozen=True)
class Evidence:
    """What was read of the cluster when an attempt failed."""

    attempt: int
    at: datetime
    parts: dict[str, list[Any]] = field(repr=False)
    error: str = ""

    @property
    def suspects(self) -> list[Any]:
        """The pods that say most: those with a problem, and those of hooks."""
        return [pod for pod in self.parts["pods"] if pod.get("trouble") or pod.get("hook")]


async def list_operations(request: Request) -> Response:
    """List what waits and runs, or what has ended."""
    caller = caller_of(request)
    state = request.query_params.get("state", "")
    if state and state not in set(OperationState):
        raise not_one_of("state", state, OperationState)
    before, release_name = _read_marker(request.query_params.get("marker", "")), _read_name(request)
    operations, partial = service_of(request, Operations), is_partial(request)
    found = await operations.list_operations(
        caller,
        cluster_id=None,
        namespace=None,
        release_name=release_name or None,
        state=state or None,
        before=before,
        limit=_PAGE,
    )
    return await page(
        request,
        "operations_list.html" if partial else "operations.html",
        rows=found.operations,
        users=await operations.name_users(caller, found.operations),
        before=await operations.count_before(caller, found.operations),
        progress=await operations.list_progress(caller, found.operations),
        workers=await operations.count_workers(caller),
        counts={} if partial else await operations.count_states(caller, release_name=release_name or None),
        release_name=release_name,
        clusters=await cluster_names(request),
        wanted=state,
        states=list(OperationState),
        marker=request.query_params.get("marker", ""),
        after=write_time_marker(*found.next) if found.next is not None else "",
        moving=any(row.state in LIVING_STATES for row in found.operations),
    )


def _read_name(request: Request) -> str:
    name = request.query_params.get("release", "").strip()
    if "\0" in name:
        raise wrong("release", gettext("it contains a NUL character"))
    return name


def _read_marker(text: str) -> tuple[datetime, str] | None:
    if not text:
        return None
    found = read_time_marker(text)
    if found is None or not OPERATION_ID.fullmatch(found[1]):
        raise wrong("marker", gettext("it is none of this list; begin at its first page"))
    return found


async def show_operation(request: Request) -> Response:
    """Show one operation."""
    row = await service_of(request, Operations).show(caller_of(request), request.path_params["operation_id"])
    events, names = await _newest_events(request), await cluster_names(request)
    shown = await _shown(request, row, events, names)
    if _has_logs(shown):
        note_logs(request, row)
    return await page(request, "operation.html", **shown)


async def follow_operation(request: Request) -> Response:
    """Send the operation as it changes: each message is all of it, so that none can be missed."""
    caller, operation_id = caller_of(request), request.path_params["operation_id"]
    operations = service_of(request, Operations)
    await operations.show(caller, operation_id)  # what is wrong is told before the stream begins

    async def messages() -> AsyncIterator[bytes]:
        try:
            events, names = await _newest_events(request), await cluster_names(request)
            row = await operations.show(caller, operation_id)
            yield await _operation_message(request, row, events, names)
            async for news in operations.follow_together(caller, operation_id, after=events.last):
                if not news.events:
                    yield QUIET
                    continue
                row, events = news.row, events.with_more(news.events)
                yield await _operation_message(request, row, events, names)
                await asyncio.sleep(_APART_SECONDS)  # what happens meanwhile is in the next message
            if row.state in LIVING_STATES:
                yield await _operation_message(request, await operations.show(caller, operation_id), events, names)
        except (NotAuthenticated, Forbidden, NotFound):
            yield REFUSED
            return
        except Busy:
            return  # without a last message: the page comes again
        yield END

    return service_of(request, EventStreams).open(caller, messages())


async def _operation_message(request: Request, row: OperationRow, events: _Events, names: dict[str, str]) -> bytes:
    """Return the message with the operation; those who follow it together, and may do the same, share its making."""
    caller, shared = caller_of(request), cast("Shared[tuple[bytes, bool]]", request.app.state.messages)
    at_release = caller.at(row.cluster_id, row.namespace).may(_GET)
    rights = caller.may(_LIST), caller.may(_GET), at_release, caller.may(_MAY_CANCEL.get(row.action, ""))
    key = (spoken(), row, events.last, here(caller), rights, sees_logs(caller, row), names.get(row.cluster_id))

    async def make() -> tuple[bytes, bool]:
        shown = await _shown(request, row, events, names)
        return message(await fragment(request, "operation_body.html", **shown)), _has_logs(shown)

    made, has_logs = await shared.share(key, make)
    if has_logs:
        note_logs(request, row)
    return made


def _has_logs(shown: dict[str, Any]) -> bool:
    """Return whether the page has lines of logs, of hooks and tests or in evidence."""
    pods = (pod for evidence in shown["evidence"] for pod in evidence.parts["pods"])
    return bool(shown["logs"]) or any(container.get("log") for pod in pods for container in pod.get("containers") or ())


async def _shown(request: Request, row: OperationRow, events: _Events, names: dict[str, str]) -> dict[str, Any]:
    caller, operations = caller_of(request), service_of(request, Operations)
    found = await operations.list_evidence(caller, row.id) if row.state not in LIVING_STATES or row.attempt > 1 else []
    evidence = [_evidence(kept.attempt, kept.at, kept.found) for kept in found]
    progress = _progress(row, events.told)
    return {
        "is_gone": row.state not in LIVING_STATES and await _is_gone(request, row),
        "row": row,
        "user": (await operations.name_users(caller, [row])).get(row.user_id) if caller.may(_LIST) else None,
        "events": events.told,
        "logs": logs_of(events.logs),
        "evidence": list(reversed(evidence)),
        "progress": progress if row.state in LIVING_STATES else None,
        "last_words": progress.text if progress is not None else "",
        "cluster": names.get(row.cluster_id, row.cluster_id),
        "is_living": row.state in LIVING_STATES,
        "before": (await operations.count_before(caller, [row])).get(row.id) if caller.may(_LIST) else None,
        "may_cancel": caller.may(_MAY_CANCEL.get(row.action, "")),
        "cancel_right": _MAY_CANCEL.get(row.action, ""),
        "plan_id": await _plan_of(request, row),
        "replaced": _replaced(row) if caller.at(row.cluster_id, row.namespace).may(_GET) else 0,
    }


async def _plan_of(request: Request, row: OperationRow) -> str:
    """Return the id of the plan that it applies; empty if there is none to be shown to the caller."""
    caller = caller_of(request)
    if not row.plan_id or not caller.may(_GET):
        return ""
    return row.plan_id if await service_of(request, Plans).is_kept(caller, row.plan_id) else ""


def _replaced(row: OperationRow) -> int:
    """Return the revision that the operation has written another over; 0 if it has not, or there was none."""
    if not row.wrote_revision or not row.revision or row.action not in _COMPARED:
        return 0
    # of one that was cancelled, the base can be its own revision: what it went back to is what was there before
    before = row.base_revision if row.base_revision != row.revision else row.restore_revision
    return before or 0


async def _is_gone(request: Request, row: OperationRow) -> bool:
    """Return whether nothing of the release is left, as far as the person may know."""
    place = ReleaseRef(row.cluster_id, row.namespace, row.release_name)
    try:
        detail = await service_of(request, ReleaseDetails).show_head(caller_of(request), place)
    except NotFound:
        return True
    except PilothouseError:
        return False
    release = detail.release
    if (row.action, row.state) != (Action.UNINSTALL, OperationState.SUCCEEDED) or row.finished_at is None:
        return False
    # what the cluster has told of it may be older than the end
    return release.status != ReleaseStatus.UNINSTALLED and release.created_at < row.finished_at


async def _newest_events(request: Request) -> _Events:
    """Return the newest events: an operation that is waited for long has thousands."""
    found = await service_of(request, Operations).list_newest_events(
        caller_of(request), request.path_params["operation_id"], limit=_MOST_EVENTS, most_logs=MOST_LOG_EVENTS
    )
    return _Events([], []).with_more(found)


async def cluster_names(request: Request) -> dict[str, str]:
    """Return the names of clusters by id, as far as the person may see them."""
    caller = caller_of(request)
    if not caller.may("cce:cluster:list"):
        return {}
    return await service_of(request, Clusters).list_names(caller)


def _progress(row: OperationRow, events: list[EventRow]) -> Progress | None:
    """Return the last report of this attempt; None if there is none."""
    last = next((event for event in reversed(events) if event.kind.endswith("_progress")), None)
    if last is None or last.attempt != row.attempt:
        return None
    counted = _OF_HOW_MANY.search(last.text)
    return Progress(last.text, int(counted[1]), int(counted[2])) if counted else Progress(last.text)


def _evidence(attempt: int, at: datetime, found: str) -> Evidence:
    try:
        read = orjson.loads(found)
        parts = {name: list(read.get(name) or []) for name in _PARTS}
        return Evidence(attempt, at, parts, str(read.get("error") or ""))
    except (ValueError, TypeError, AttributeError):
        nothing: dict[str, list[Any]] = {name: [] for name in _PARTS}
        return Evidence(attempt, at, nothing | {"missing": [gettext("everything: the stored evidence is damaged")]})


async def ask_cancel(request: Request, *, refused: Refusal | None = None) -> Response:
    """Say what a cancel does, and ask for it."""
    caller = caller_of(request)
    operation_id = request.path_params["operation_id"]
    await service_of(request, Cancellations).check(caller, operation_id)
    row = await service_of(request, Operations).show(caller, operation_id)
    names = await cluster_names(request)
    return await page(
        request,
        "operation_cancel.html",
        refused=refused,
        row=row,
        cluster=names.get(row.cluster_id, row.cluster_id),
        is_living=row.state in LIVING_STATES,
        consequence=tell_consequence(
            row.action, state=row.state, has_written=row.last_writing_attempt is not None, target=row.restore_revision
        ),
    )


def tell_consequence(action: str, *, state: str, has_written: bool, target: int | None) -> str:
    """Return what a cancel makes of the release; ``target``: the revision that was deployed before it wrote."""
    if state == OperationState.QUEUED:
        return gettext("Nothing of it was begun, so nothing has to be undone.")
    if action in {Action.UPGRADE, Action.ROLLBACK} and has_written:
        if target is None:
            return gettext("No revision was deployed before: the release stays failed, with what was changed so far.")
        return gettext("The release goes back to revision %(number)s, the last that was deployed.", number=target)
    return CONSEQUENCES.get(action, "")


async def cancel(request: Request) -> Response:
    """Cancel the operation."""
    fields = await read_form(request)
    caller, operation_id = caller_of(request), request.path_params["operation_id"]
    try:
        await service_of(request, Cancellations).cancel(
            caller, operation_id, keep=fields.get("keep") == "yes", request_id=request_id_of(request)
        )
    except PilothouseError as error:
        return await ask_cancel(request, refused=refusal(request, error))
    return see_other(f"{here(caller)}/operations/{operation_id}")


_ONE: Final = "/operations/{operation_id}"
ROUTES: Final = [
    Route("/operations", list_operations, methods=["GET"]),
    Route("/operations/live", list_operations, methods=["GET"]),
    Route(_ONE, show_operation, methods=["GET"]),
    Route(f"{_ONE}/live", follow_operation, methods=["GET"]),
    Route(f"{_ONE}/cancel", ask_cancel, methods=["GET"]),
    Route(f"{_ONE}/cancel", cancel, methods=["POST"]),
]

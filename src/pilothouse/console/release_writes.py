"""Writes to a release: each has a page that says what will happen, and a form that orders it.

What the services refuse is shown on that page, in their own words, beside what was typed.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.comparisons import compare
from pilothouse.console.faults import tell
from pilothouse.console.forms import Fields, require_typed_name
from pilothouse.console.plans import plan_path
from pilothouse.console.release import PREFIX, place_of, read_revision, show_head, show_page
from pilothouse.console.rendering import is_partial, refusal
from pilothouse.console.requests import caller_of, here, key_of, new_once, read_form, see_other, wrong
from pilothouse.console.texts import gettext
from pilothouse.errors import PilothouseError
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.operations.idempotency import Idempotency, Key, SubmittedOperation
from pilothouse.services.releases.delete import DeleteRelease, Deletions
from pilothouse.services.releases.deployed import likeliest_first
from pilothouse.services.releases.details import HistoryItem, ReleaseDetail, ReleaseDetails, ReleaseRef
from pilothouse.services.releases.locks import Seen, microseconds
from pilothouse.services.releases.plans import Change, Plans
from pilothouse.services.releases.unlock import Unlocks
from pilothouse.services.releases.update import Updates
from pilothouse.services.releases.update_plans import UpdateRelease
from pilothouse.states import Action, ReleaseStatus

#: In this order the page asks for the right before anything is read of the cluster.
_UPDATE, _DELETE = "cce:release:update", "cce:release:delete"
_SEEN: Final = re.compile(r"([0-9]{1,10})!(-?[0-9]{1,18})")


async def ask_rollback(request: Request) -> Response:
    """Show what a rollback would change."""
    caller_of(request).require(_UPDATE)
    return await _rollback_page(request, {"to": request.query_params.get("to", "")})


async def roll_back(request: Request) -> Response:
    """Order a rollback to the revision of the form."""

    async def order(fields: Fields) -> str:
        revision = read_revision(fields.get("to", ""), "to")
        if revision is None:
            raise wrong("to", gettext("missing; choose the revision to go back to"))
        if "show" in fields:
            return f"{release_path(request)}/rollback?to={revision}"
        if "plan" in fields:
            wanted = UpdateRelease(action=Action.ROLLBACK, release_version=revision, include_hooks="hooks" in fields)
            return await _plan(request, wanted)
        _require_shown(fields, revision)
        accepted = await submit_rollback(
            request,
            place_of(request),
            revision=revision,
            include_hooks="hooks" in fields,
            key=key_of(request, fields),
            seen=_read_seen(fields),
        )
        return _operation_path(request, accepted)

    return await _write(request, order, _rollback_page)


def _require_shown(fields: Fields, revision: int) -> None:
    """Raise InvalidRequest if the page has shown what another revision than the chosen one would change."""
    shown = read_revision(fields.get("shown", ""), "to")
    if shown not in {None, revision}:
        problem = gettext(
            "revision %(chosen)s was chosen, and what was shown is revision %(shown)s; nothing was done. What the "
            "chosen one changes is shown now: order it again if that is what you want",
            chosen=revision,
            shown=shown,
        )
        raise wrong("to", problem)


async def _rollback_page(request: Request, fields: Fields, *, refused: Refusal | None = None) -> Response:
    detail, diff, unread = await show_head(request), None, None
    earlier: list[HistoryItem] = []
    try:
        earlier = await read_earlier(request, detail)
        target = read_revision(fields.get("to", ""), "to") or find_last_good(earlier)
        fields = {**fields, "to": str(target or "")}
        if target is not None:
            diff = await compare(request, old=detail.release.revision, new=target, is_gone=is_uninstalled(detail))
    except PilothouseError as error:
        unread = refusal(request, error)
        if is_partial(request):  # htmx swaps in no error's page
            unread = replace(unread, status=200)
    return await show_page(
        request,
        "release_rollback.html",
        tab="history",
        refused=refused or unread,
        detail=detail,
        seen=_as_seen(detail),
        fields=fields,
        rows=[item.revision for item in earlier],
        is_gone=is_uninstalled(detail),
        went_well={item.revision.revision for item in earlier if item.was_deployed},
        diff=diff,
        problem=refused.text if refused is not None else "",
        unread=unread.text if unread is not None else "",
        once=new_once(),
    )


def is_uninstalled(detail: ReleaseDetail) -> bool:
    """Return whether nothing but the history of the release is left."""
    return detail.release.status == ReleaseStatus.UNINSTALLED


async def read_earlier(request: Request, detail: ReleaseDetail) -> list[HistoryItem]:
    """Return the revisions to go back to that Helm keeps, newest first; of what is uninstalled the last is one."""
    release, below = detail.release, detail.release.revision + is_uninstalled(detail)
    place = ReleaseRef(release.cluster_id, release.namespace, release.name)
    history = await service_of(request, ReleaseDetails).show_history(caller_of(request), place)
    return [item for item in history if item.revision.revision < below]


def find_last_good(earlier: Iterable[HistoryItem]) -> int | None:
    """Return the revision that was deployed last; None if none was."""
    deployed = likeliest_first(item.revision for item in earlier if item.was_deployed)
    return deployed[0].revision if deployed else None


async def ask_uninstall(request: Request) -> Response:
    """Say what an uninstall does."""
    caller_of(request).require(_DELETE)
    return await _uninstall_page(request, {name: "yes" for name in ("keep_history",) if name in request.query_params})


async def uninstall(request: Request) -> Response:
    """Order the uninstall of a release whose name was typed."""

    async def order(fields: Fields) -> str:
        place = place_of(request)
        wanted = read_uninstall(fields)
        if "plan" in fields:
            return await _plan(request, wanted)
        ask = gettext("type the release's name, %(name)s, to uninstall it", name=place.name)
        require_typed_name(fields, place.name, ask=ask)
        seen = replace(wanted, seen=_read_seen(fields))
        accepted = await submit_uninstall(request, place, seen, key=key_of(request, fields))
        return _operation_path(request, accepted)

    return await _write(request, order, _uninstall_page)


def read_uninstall(fields: Fields) -> DeleteRelease:
    """Return what the form of an uninstall asks for; hooks run if somebody has ticked it, else as the server does."""
    return DeleteRelease(no_hooks=False if "hooks" in fields else None, keep_history="keep_history" in fields)


async def _uninstall_page(request: Request, fields: Fields, **more: Any) -> Response:
    detail = await show_head(request)
    release = detail.release
    runs_hooks = await service_of(request, Deletions).runs_hooks(
        release.cluster_id, namespace=release.namespace, name=release.name, revision=release.revision
    )
    return await _form(request, "release_uninstall.html", fields, detail=detail, runs_hooks=runs_hooks, **more)


async def ask_unlock(request: Request) -> Response:
    """Say whose lock it is, and what unlocking means."""
    caller_of(request).require(_UPDATE)
    return await _unlock_page(request, {})


async def unlock(request: Request) -> Response:
    """Mark the locked revision as failed."""

    async def order(fields: Fields) -> str:
        place = place_of(request)
        await service_of(request, Unlocks).unlock(
            caller_of(request),
            await _cluster_id(request, place),
            namespace=place.namespace,
            name=place.name,
            reason=fields.get("reason", ""),
            request_id=request_id_of(request),
            seen=_read_seen(fields),
        )
        return release_path(request)

    return await _write(request, order, _unlock_page)


async def _unlock_page(request: Request, fields: Fields, **more: Any) -> Response:
    return await _form(request, "release_unlock.html", fields, **more)


async def _form(
    request: Request,
    template: str,
    fields: Fields,
    *,
    refused: Refusal | None = None,
    detail: ReleaseDetail | None = None,
    **more: Any,
) -> Response:
    detail = detail or await show_head(request)
    return await show_page(
        request,
        template,
        tab="overview",
        refused=refused,
        faults=tell(refused, "confirm", "reason"),
        detail=detail,
        seen=_as_seen(detail),
        fields=fields,
        once=new_once(),
        **more,
    )


def _as_seen(detail: ReleaseDetail) -> str:
    """Return what the page shows of the release, as its form carries it; empty for an install that is under way."""
    if detail.underway is not None and detail.underway.action == Action.INSTALL:
        return ""
    return f"{detail.release.revision}!{microseconds(detail.release.created_at)}"


def _read_seen(fields: Fields) -> Seen | None:
    text = fields.get("seen", "")
    found = _SEEN.fullmatch(text)
    if text and found is None:
        raise wrong("seen", gettext("it is none of this page; look at the release again"))
    return Seen(int(found[1]), int(found[2])) if found is not None else None


async def _write(
    request: Request, order: Callable[[Fields], Awaitable[str]], ask: Callable[..., Awaitable[Response]]
) -> Response:
    """Carry out what the form orders and lead to what came of it, or show the form again with the refusal."""
    fields = await read_form(request)
    try:
        return see_other(await order(fields))
    except PilothouseError as error:
        return await ask(request, fields, refused=refusal(request, error))


async def _plan(request: Request, change: Change) -> str:
    """Make the plan of a change, and return its address."""
    plan = await service_of(request, Plans).make(caller_of(request), place_of(request), change)
    return plan_path(caller_of(request), plan.row)


async def submit_rollback(
    request: Request,
    place: ReleaseRef,
    *,
    revision: int,
    include_hooks: bool,
    key: Key | None,
    seen: Seen | None = None,
) -> SubmittedOperation:
    """Order a rollback to that revision; InvalidRequest if the release is not what was ``seen`` any more."""
    cluster_id = await _cluster_id(request, place)
    wanted = UpdateRelease(action=Action.ROLLBACK, release_version=revision, include_hooks=include_hooks, seen=seen)
    return await service_of(request, Idempotency).once(
        caller_of(request),
        key,
        lambda: service_of(request, Updates).update(
            caller_of(request),
            cluster_id,
            namespace=place.namespace,
            name=place.name,
            request=wanted,
            request_id=request_id_of(request),
            key=key,
        ),
    )


async def submit_uninstall(
    request: Request, place: ReleaseRef, wanted: DeleteRelease, *, key: Key | None
) -> SubmittedOperation:
    """Order the uninstall of the release; InvalidRequest if it is not what was ``seen`` any more."""
    cluster_id = await _cluster_id(request, place)
    return await service_of(request, Idempotency).once(
        caller_of(request),
        key,
        lambda: service_of(request, Deletions).delete(
            caller_of(request),
            cluster_id,
            namespace=place.namespace,
            name=place.name,
            request=wanted,
            request_id=request_id_of(request),
            key=key,
        ),
    )


async def _cluster_id(request: Request, place: ReleaseRef) -> str:
    return (await service_of(request, ReleaseDetails).locate(caller_of(request), place)).cluster


def release_path(request: Request) -> str:
    """Return the address of the release's page."""
    place = place_of(request)
    named = "/".join(quote(word, safe="") for word in (place.cluster, place.namespace, place.name))
    return f"{here(caller_of(request))}/releases/{named}"


def _operation_path(request: Request, accepted: SubmittedOperation) -> str:
    if accepted.operation_id is None:
        return f"{here(caller_of(request))}/releases"
    return f"{here(caller_of(request))}/operations/{accepted.operation_id}"


ROUTES: Final = [
    Route(f"{PREFIX}/rollback", ask_rollback, methods=["GET"]),
    Route(f"{PREFIX}/rollback", roll_back, methods=["POST"]),
    Route(f"{PREFIX}/uninstall", ask_uninstall, methods=["GET"]),
    Route(f"{PREFIX}/uninstall", uninstall, methods=["POST"]),
    Route(f"{PREFIX}/unlock", ask_unlock, methods=["GET"]),
    Route(f"{PREFIX}/unlock", unlock, methods=["POST"]),
]

"""Several releases at once: one page that names all and says what happens to each, and one that tells what came of it.

Each is ordered by itself, by the service that orders a single one, with the same right. What a page has shown is in its
form: a release that has moved since is left alone.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.bulk_upgrades import explain_no_update, submit_upgrade
from pilothouse.console.faults import tell
from pilothouse.console.forms import Fields
from pilothouse.console.operations import OPERATION_ID, cluster_names
from pilothouse.console.release_writes import (
    find_last_good,
    is_uninstalled,
    read_earlier,
    read_uninstall,
    submit_rollback,
    submit_uninstall,
)
from pilothouse.console.rendering import is_partial, page, refusal
from pilothouse.console.requests import caller_of, here, key_of, new_once, read_form, see_other, wrong
from pilothouse.console.texts import Texts, gettext, gettext_noop
from pilothouse.errors import PilothouseError
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import service_of
from pilothouse.services.operations.idempotency import Key
from pilothouse.services.operations.read import Operations
from pilothouse.services.releases.delete import DeleteRelease
from pilothouse.services.releases.details import ReleaseDetail, ReleaseDetails, ReleaseRef
from pilothouse.services.releases.locks import Seen, microseconds
from pilothouse.states import LIVING_STATES, Action
from pilothouse.store.operations import OperationRow

#: All are read and ordered within one request.
MOST: Final = 25
_RIGHTS: Final[dict[str, str]] = {
    Action.UPGRADE: "cce:release:update",
    Action.ROLLBACK: "cce:release:update",
    Action.UNINSTALL: "cce:release:delete",
}
#: Why a release is left alone.
UNDERWAY: Final = Texts({
    Action.INSTALL: gettext_noop("its install is not finished"),
    Action.UPGRADE: gettext_noop("its upgrade is not finished"),
    Action.ROLLBACK: gettext_noop("its rollback is not finished"),
    Action.UNINSTALL: gettext_noop("its uninstall is not finished"),
    Action.TEST: gettext_noop("its test is not finished"),
})  # fmt: skip
_PART: Final = r"([^/@\s\0]{1,128})"
_NAMED: Final = re.compile(
    rf"{_PART}/{_PART}/{_PART}(?:@([0-9]{{1,10}}))?(?:>([0-9]{{1,10}}))?(?:=([0-9A-Za-z.+-]{{1,128}}))?"
    r"(?:!(-?[0-9]{1,18}))?"
)


@dataclass(frozen=True)
class Chosen:
    """A release that was chosen; ``target``: the revision that a rollback goes back to, ``version``: of an upgrade.

    ``since``: when it was first installed, in microseconds. ``problem``: why nothing can be done with it, or why it was
    not ordered; ``operation_id``: the order, ``row``: how it is now. ``unsure``: it may be ordered although there was a
    problem.
    """

    place: ReleaseRef
    detail: ReleaseDetail | None = field(default=None, repr=False)
    revision: int = 0
    target: int = 0
    version: str = ""
    since: int = 0
    problem: str = ""
    operation_id: str = ""
    row: OperationRow | None = field(default=None, repr=False)
    unsure: bool = False

    @property
    def text(self) -> str:
        """The release as a form carries it, with what the page has shown of it."""
        aim = f">{self.target}" if self.target else f"={self.version}" if self.version else ""
        return f"{self.place.cluster}/{self.place.namespace}/{self.place.name}@{self.revision}{aim}!{self.since}"


def read_places(texts: list[str], *, most: int) -> list[ReleaseRef]:
    """Return the releases that were chosen, each once; InvalidRequest for none, or too many."""
    return [target.place for target in _read(texts, most=most)]


def _read(texts: list[str], *, most: int = MOST) -> list[Chosen]:
    chosen: dict[ReleaseRef, Chosen] = {}
    for text in texts:
        found = _NAMED.fullmatch(text.strip())
        if found is None:
            raise wrong(
                "release", gettext("%(given)s is not a release; choose some in the list", given=repr(text[:80]))
            )
        place = ReleaseRef(found[1], found[2], found[3])
        revision, target, since = (int(number or 0) for number in (found[4], found[5], found[7]))
        chosen[place] = Chosen(place, revision=revision, target=target, version=found[6] or "", since=since)
    if not chosen:
        raise wrong("release", gettext("none is chosen; tick some in the list first"))
    if len(chosen) > most:
        problem = gettext(
            "%(chosen)s are chosen, and at most %(most)s are done at a time; choose fewer",
            chosen=len(chosen),
            most=most,
        )
        raise wrong("release", problem)
    return list(chosen.values())


def _read_action(request: Request, text: str) -> str:
    if text not in _RIGHTS:
        raise wrong("do", gettext("choose what to do with them: %(actions)s", actions=", ".join(_RIGHTS)))
    caller_of(request).require(_RIGHTS[text])
    return text


async def ask(request: Request) -> Response:
    """Say what will happen to each."""
    action = _read_action(request, request.query_params.get("do", ""))
    return await _ask(request, action, _read(request.query_params.getlist("release")))


async def _ask(
    request: Request, action: str, named: list[Chosen], *, refused: Refusal | None = None, typed: Fields | None = None
) -> Response:
    chosen = [await _look(request, action, choice) for choice in named]
    return await page(
        request,
        "bulk.html",
        refused=refused,
        faults=tell(refused, "confirm"),
        action=action,
        ready=[choice for choice in chosen if not choice.problem],
        others=[choice for choice in chosen if choice.problem],
        confirm=_confirmation(action, [choice for choice in chosen if not choice.problem]),
        typed=typed or {},
        keepable=any(choice.revision and not _is_history(choice) for choice in chosen if not choice.problem),
        runs_hooks=request.app.state.settings.hooks.on_delete,
        once=new_once(),
    )


def _is_history(choice: Chosen) -> bool:
    """Return whether nothing but the history of the release is left."""
    return choice.detail is not None and is_uninstalled(choice.detail)


def _confirmation(action: str, chosen: list[Chosen]) -> str:
    """Return what is to be typed; a rollback can be rolled back."""
    return gettext("uninstall %(number)s", number=len(chosen)) if action == Action.UNINSTALL else ""


async def _look(request: Request, action: str, choice: Chosen) -> Chosen:
    try:
        detail = await service_of(request, ReleaseDetails).show_head(caller_of(request), choice.place)
        since = microseconds(detail.release.created_at)
        looked = replace(choice, detail=detail, revision=detail.release.revision, target=0, version="", since=since)
        if problem := _explain_alone(action, detail):
            return replace(looked, problem=problem)
        if action == Action.UPGRADE:
            return replace(looked, version=detail.origin.newer_version)
        target = (find_last_good(await read_earlier(request, detail)) or 0) if action == Action.ROLLBACK else 0
    except PilothouseError as error:
        return replace(choice, problem=refusal(request, error, place=choice.place).text)
    alone = gettext("it has no earlier revision that went well") if action == Action.ROLLBACK and not target else ""
    return replace(looked, target=target, problem=alone)


def _explain_alone(action: str, detail: ReleaseDetail) -> str:
    """Return why the action leaves the release alone, as far as its head tells; empty if it does not."""
    if detail.underway is not None:
        return UNDERWAY[detail.underway.action]
    if detail.elsewhere is not None:
        return gettext("it is at work through another registration of the API server")
    if action != Action.UNINSTALL and is_uninstalled(detail):
        return gettext("it is uninstalled; bring it back on its own page")
    return explain_no_update(detail) if action == Action.UPGRADE else ""


async def carry_out(request: Request) -> Response:
    """Order what the page has said, each by itself, and tell what came of each."""
    fields = await read_form(request)
    action = _read_action(request, fields.get("do", ""))
    named = _read(fields.get("releases", "").split())
    wanted = _confirmation(action, named)
    if wanted and " ".join(fields.get("confirm", "").split()) != wanted:
        error = wrong("confirm", gettext("type %(wanted)s to uninstall them", wanted=repr(wanted)))
        return await _ask(request, action, named, refused=refusal(request, error), typed=fields)
    key, options = key_of(request, fields), read_uninstall(fields)
    done = []
    for number, choice in enumerate(named):
        own = Key(f"{key.text}-{number}"[:255], key.fingerprint) if key is not None else None
        done.append(await _submit(request, action, choice, options, own))
    ordered = [("order", choice.operation_id) for choice in done if choice.operation_id]
    left = [("left", choice.text) for choice in done if not choice.operation_id]
    address = f"{here(caller_of(request))}/releases/bulk/ordered?{urlencode([('do', action), *ordered, *left])}"
    if not left and caller_of(request).may("cce:operation:get"):
        return see_other(address)
    return await _tell(request, action, done, asked_by=address)


async def _tell(request: Request, action: str, done: list[Chosen], **context: Any) -> Response:
    """Return the page that tells what came of each order, as far as the person may know."""
    ordered, operations = [choice for choice in done if not choice.problem], service_of(request, Operations)
    if caller_of(request).may("cce:operation:get"):
        ordered = [
            replace(choice, row=await operations.show(caller_of(request), choice.operation_id))
            if choice.operation_id
            else choice
            for choice in ordered
        ]
    rows = [choice.row for choice in ordered if choice.row is not None]
    return await page(
        request,
        "bulk_done_list.html" if is_partial(request) else "bulk_done.html",
        action=action,
        ordered=ordered,
        left=[choice for choice in done if choice.problem],
        progress=await operations.list_progress(caller_of(request), rows) if rows else {},
        moving=any(row.state in LIVING_STATES for row in rows),
        live=urlencode([("do", action), *(("order", row.id) for row in rows)]),
        **context,
    )


async def show_ordered(request: Request) -> Response:
    """Tell what was ordered together, as the address names it; why one was left alone is told only once."""
    action, query = _read_action(request, request.query_params.get("do", "")), request.query_params
    names = await cluster_names(request)
    done = []
    for operation_id in query.getlist("order")[:MOST]:
        if not OPERATION_ID.fullmatch(operation_id):
            raise wrong("order", gettext("%(given)s is not an operation", given=repr(operation_id[:40])))
        row = await service_of(request, Operations).show(caller_of(request), operation_id)
        place = ReleaseRef(names.get(row.cluster_id, row.cluster_id), row.namespace, row.release_name)
        done.append(Chosen(place, operation_id=row.id))
    left = _read(query.getlist("left")) if "left" in query else []
    untold = gettext("no order of it is known; its page tells how it is now")
    done += [replace(choice, problem=untold) for choice in left]
    return await _tell(request, action, done)


async def _submit(request: Request, action: str, choice: Chosen, options: DeleteRelease, key: Key | None) -> Chosen:
    seen = Seen(choice.revision, choice.since)
    try:
        if action == Action.UNINSTALL:
            accepted = await submit_uninstall(request, choice.place, replace(options, seen=seen), key=key)
        elif action == Action.UPGRADE:
            accepted = await submit_upgrade(request, choice.place, choice.version, seen=seen, key=key)
        else:
            accepted = await submit_rollback(
                request, choice.place, revision=choice.target, include_hooks=False, key=key, seen=seen
            )
    except PilothouseError as error:
        refused = refusal(request, error, place=choice.place)
        return replace(choice, problem=refused.text, unsure=refused.unsure)
    return replace(choice, operation_id=accepted.operation_id or "")


ROUTES: Final = [
    Route("/releases/bulk", ask, methods=["GET"]),
    Route("/releases/bulk", carry_out, methods=["POST"]),
    Route("/releases/bulk/ordered", show_ordered, methods=["GET"]),
    Route("/releases/bulk/ordered/live", show_ordered, methods=["GET"]),
]

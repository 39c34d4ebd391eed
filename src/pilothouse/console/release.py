"""One release: what it is, who changed it, and each part of its revisions."""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from typing import Any, Final, TypeVar, get_args
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.auth.policy import READ_VALUES
from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.console.rendering import is_partial, page, refusal
from pilothouse.console.requests import caller_of, here, not_one_of, wrong
from pilothouse.console.texts import gettext
from pilothouse.errors import Forbidden, NotAuthenticated, NotFound, PilothouseError
from pilothouse.http.audit import note_read
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import service_of
from pilothouse.kubernetes.health import Health
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.off_loop import off_loop
from pilothouse.services.clusters import Clusters
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.operations.read import Operations
from pilothouse.services.releases.details import ReleaseDetail, ReleaseDetails, ReleaseRef
from pilothouse.services.releases.parts import Layer, ReleaseParts
from pilothouse.services.releases.plan_changes import ValueOrigin, find_origins
from pilothouse.services.releases.tree import ReleaseTrees
from pilothouse.states import LIVING_STATES, UNSETTLED, OperationState
from pilothouse.store.operations import release_key

Found = TypeVar("Found")

#: Health that is looked at again soon.
_MOVING: Final = frozenset({Health.PROGRESSING, Health.TERMINATING, Health.DEGRADED})
_LAYERS: Final[tuple[Layer, ...]] = get_args(Layer)
_LARGE: Final = 2**20
_OPERATIONS: Final = 30
#: Values with their origin on one page.
MOST_LEAVES: Final = 500
_LARGEST_REVISION: Final = 2**31
#: What of a page comes anew that is about more than what the release is now: its head alone.
_HEAD: Final = "/head"
#: In the query, by a stamp: which state of the release a page shows already.
_SEEN: Final = "seen"
_LONGEST_STAMP: Final = 64


@dataclass(frozen=True)
class Leaf:
    """A value that is no mapping, by its JSON pointer."""

    path: str
    origin: str
    value: Any = field(repr=False)


def place_of(request: Request) -> ReleaseRef:
    """Return where the release is that the path names."""
    named = request.path_params
    return ReleaseRef(named["cluster"], named["namespace"], named["name"])


def revision_of(request: Request, name: str = "revision") -> int | None:
    """Return the revision that the query names; None if it names none."""
    return read_revision(request.query_params.get(name, ""), name)


def read_revision(text: str, name: str) -> int | None:
    """Return the number of a revision; None for an empty text."""
    if not text.strip():
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text.strip()) or not 0 < int(text) < _LARGEST_REVISION:
        raise wrong(name, gettext("%(given)s is not a revision", given=repr(text[:40])))
    return int(text)


async def show_head(request: Request) -> ReleaseDetail:
    """Return what every page of the release tells of it; no values are among that."""
    return await service_of(request, ReleaseDetails).show_head(caller_of(request), place_of(request))


async def look(
    request: Request, at: Callable[[Caller, ReleaseRef], Awaitable[Found]], *, part: str, right: str = READ_VALUES
) -> Found:
    """Return what was found of the release for the caller; raise NotPermitted if it may not see that any more."""
    before = caller_of(request)
    place = await service_of(request, ReleaseDetails).locate(before, place_of(request))
    found = await at(before, place)
    caller = await recheck_and_note(request, place, part, right)
    for each in {right, READ_VALUES}:
        if before.may(each):
            caller.require(each)
    return found


async def show_page(
    request: Request, template: str, *, tab: str, refused: Refusal | None = None, follows: str = _HEAD, **more: Any
) -> Response:
    """Return a page of the release, with its head; ``follows``: what of it comes anew by itself when the release moves.

    To a script that has seen the page it is the head and the part below it.
    """
    detail = more.pop("detail", None) or await show_head(request)
    layout = "release_live.html" if _is_shown_again(request) else "release_page.html"
    shown = {"tab": tab, "layout": layout, **_head(request, detail, follows), **more}
    return await page(request, template, refused=refused, **shown)


def _is_shown_again(request: Request) -> bool:
    """Return True if a script asks for what has become of a page that it shows."""
    return is_partial(request) and _SEEN in request.query_params


def _head(request: Request, detail: ReleaseDetail, follows: str, *, stale: str = "", seen: str = "") -> dict[str, Any]:
    """Return what the head shows; ``stale``: why what is below it could not be read again, as it was ``seen``."""
    locked = detail.underway is None and detail.elsewhere is None and detail.release.status in UNSETTLED
    stamp = seen or _stamp(detail)
    return {
        "detail": detail,
        "release": detail.release,
        "locked": locked,
        "stamp": stamp,
        "stale": stale,
        "live": _live_path(request, follows, stamp),
    }


def _stamp(detail: ReleaseDetail) -> str:
    """Return a text that is another one as soon as the release has moved."""
    release, underway, elsewhere = detail.release, detail.underway, detail.elsewhere
    known: list[Any] = [release.revision, release.status, release.created_at]
    known += [underway.operation_id, underway.state] if underway is not None else [None, None]
    known += [elsewhere.operation_id, elsewhere.state] if elsewhere is not None else [None, None]
    known += [detail.changed_by.operation_id if detail.changed_by is not None else None]
    return sha256(repr(known).encode()).hexdigest()[:16]


def _live_path(request: Request, follows: str, stamp: str) -> str:
    """Return the address, below the release's, of what of a page comes anew."""
    shown = [] if follows == _HEAD else request.query_params.multi_items()
    return f"{follows}/live?{urlencode([*((name, value) for name, value in shown if name != _SEEN), (_SEEN, stamp)])}"


def follow(show: Callable[[Request], Awaitable[Response]] | None, follows: str) -> Callable[..., Awaitable[Response]]:
    """Return what tells a page that is open what has become of the release: its head, and if it moved the rest too.

    What cannot be read now stays as it was shown, with the reason, and is asked for again.
    """

    async def tell(request: Request) -> Response:
        seen = request.query_params.get(_SEEN, "")[:_LONGEST_STAMP]
        try:
            detail = await show_head(request)
        except NotFound as error:
            live = f"{here(caller_of(request))}{_place_path(request)}{_live_path(request, follows, 'gone')}"
            text = refusal(request, error).text
            return await page(request, "release_gone.html", place=place_of(request), live=live, problem=text)
        stale = ""
        if show is not None and seen != _stamp(detail):
            try:
                return await show(request)
            except (NotAuthenticated, Forbidden):
                raise
            except PilothouseError as error:
                stale = refusal(request, error).text
        told = _head(request, detail, follows, stale=stale, seen=seen if stale else "")
        return await page(request, "release_now.html", **told)

    return tell


def _place_path(request: Request) -> str:
    place = place_of(request)
    return "/releases/" + "/".join(quote(word, safe="") for word in (place.cluster, place.namespace, place.name))


async def show_release(request: Request) -> Response:
    """Show what the release is: status, notes, labels, its last operations."""
    detail, caller = await look(request, service_of(request, ReleaseDetails).show, part="release"), caller_of(request)
    rows = []
    if caller.may("cce:operation:list"):
        release = detail.release
        rows = await service_of(request, Operations).list_of_release(
            caller,
            cluster_id=release.cluster_id,
            namespace=release.namespace,
            release_name=release.name,
            limit=_OPERATIONS,
        )
    failed = rows[0] if rows and rows[0].state == OperationState.FAILED else None
    running = next((row for row in rows if row.state in LIVING_STATES), None)
    sees = caller.may("cce:cluster:get")
    cluster = await service_of(request, Clusters).show(caller, detail.release.cluster_id) if sees else None
    return await show_page(
        request,
        "release.html",
        tab="overview",
        follows="",
        detail=detail,
        operations=rows,
        failed=failed,
        running=running,
        cluster=cluster,
    )


async def show_values(request: Request) -> Response:
    """Show the values of a revision: the user's, the chart's, or both merged."""
    layer = request.query_params.get("layer", "user")
    if layer not in _LAYERS:
        raise not_one_of("layer", layer, _LAYERS)
    return await _part(request, "values", layer=layer, layers=_LAYERS)


async def show_manifest(request: Request) -> Response:
    """Show the rendered objects of a revision."""
    return await _part(request, "manifest")


async def _part(request: Request, part: str, **more: Any) -> Response:
    """Show a part of a revision; if the cluster cannot be read, the page says why and keeps its head."""
    text, origins, refused, revision = "", [], None, revision_of(request)
    detail = await show_head(request)
    try:
        caller, stored = await read_revision_of(request, revision, part=part)
        text = await _text(request, caller, stored, part, more.get("layer"))
        if more.get("layer") == "computed":
            origins = await _leaves(request, caller, stored)
        revision = stored.revision
    except PilothouseError as error:
        if _is_shown_again(request):
            raise
        refused = refusal(request, error)
    return await show_page(
        request,
        f"release_{part}.html",
        tab=part,
        follows=f"/{part}",
        detail=detail,
        text=text,
        origins=origins,
        most_leaves=MOST_LEAVES,
        refused=refused,
        revision=revision or detail.release.revision,
        **more,
    )


async def _text(request: Request, caller: Caller, stored: StoredRelease, part: str, layer: Layer | None) -> str:
    parts = service_of(request, ReleaseParts)
    if part == "manifest" or layer is None:
        return (await parts.show_manifest(caller, stored)).text
    found = await parts.show_values(caller, stored, layer)
    return await off_loop(lambda: dump_yaml(found.values), size=_LARGE) if found.values else ""


def find_leaves(shown: dict[str, Any], origins: Iterable[ValueOrigin]) -> list[Leaf]:
    """Return the values with where each comes from; as many as a page shows, and one more if there are more."""
    found = []
    for origin in islice(origins, MOST_LEAVES + 1):
        value: Any = shown
        for key in origin.path.split("/")[1:]:
            value = value[key.replace("~1", "/").replace("~0", "~")]
        found.append(Leaf(origin.path, origin.origin, value))
    return found


async def _leaves(request: Request, caller: Caller, stored: StoredRelease) -> list[Leaf]:
    shown = (await service_of(request, ReleaseParts).show_values(caller, stored, "computed")).values
    return await off_loop(lambda: find_leaves(shown, find_origins(shown, [("given", stored.config)])), size=_LARGE)


async def read_revision_of(request: Request, revision: int | None, *, part: str) -> tuple[Caller, StoredRelease]:
    """Return the caller to show the part to, as it is after the cluster has answered, and the revision (or newest)."""
    details = service_of(request, ReleaseDetails)
    place = await details.locate(caller_of(request), place_of(request))
    stored = await details.read_stored(place, revision)
    return await recheck_and_note(request, place, part), stored


async def recheck_and_note(request: Request, place: ReleaseRef, part: str, right: str = READ_VALUES) -> Caller:
    """Return the caller as it is after the cluster has answered, and note for the audit what it is shown."""
    caller = await service_of(request, Standing).require(caller_of(request), "cce:release:get")
    if caller.may(right):  # who is shown masked values has read none
        key = release_key(place.cluster, place.namespace, place.name)
        note_read(request, right, target=key, target_name=place.name, detail=part)
    return caller


async def show_resources(request: Request) -> Response:
    """Show the live objects, down to pods; if the cluster cannot be read, the page says why."""
    found, refused = None, None
    try:
        found = await look(request, service_of(request, ReleaseTrees).read, part="resources")
    except PilothouseError as error:
        refused = refusal(request, error)
    partial_only = is_partial(request)
    if partial_only and refused is not None:  # htmx swaps in no error's page
        refused = replace(refused, status=200)
    moving = found is None or found.tree.health in _MOVING
    template = "release_tree.html" if partial_only else "release_resources.html"
    return await show_page(request, template, tab="resources", refused=refused, found=found, moving=moving)


async def show_health(request: Request) -> Response:
    """Show the health of the live objects, for a part of a page; no text of theirs, which may quote values."""
    found, problem = None, ""
    try:
        caller = caller_of(request)
        place = await service_of(request, ReleaseDetails).locate(caller, place_of(request))
        found = await service_of(request, ReleaseTrees).read(caller, place)
        await service_of(request, Standing).require(caller, "cce:release:get")
    except (NotAuthenticated, Forbidden):
        raise
    except PilothouseError as error:
        problem = refusal(request, error).text
    return await page(request, "release_health.html", found=found, problem=problem, at=_place_path(request))


async def show_history(request: Request) -> Response:
    """List the revisions that Helm keeps, with who wrote each, and why."""
    items = await look(request, service_of(request, ReleaseDetails).show_history, part="history")
    return await show_page(request, "release_history.html", tab="history", follows="/history", items=items)


PREFIX: Final = "/releases/{cluster}/{namespace}/{name}"
ROUTES: Final = [
    Route(PREFIX, show_release, methods=["GET"]),
    Route(f"{PREFIX}/live", follow(show_release, ""), methods=["GET"]),
    Route(f"{PREFIX}{_HEAD}/live", follow(None, _HEAD), methods=["GET"]),
    Route(f"{PREFIX}/health/live", show_health, methods=["GET"]),
    Route(f"{PREFIX}/resources", show_resources, methods=["GET"]),
    Route(f"{PREFIX}/resources/live", show_resources, methods=["GET"]),
    Route(f"{PREFIX}/values", show_values, methods=["GET"]),
    Route(f"{PREFIX}/values/live", follow(show_values, "/values"), methods=["GET"]),
    Route(f"{PREFIX}/manifest", show_manifest, methods=["GET"]),
    Route(f"{PREFIX}/manifest/live", follow(show_manifest, "/manifest"), methods=["GET"]),
    Route(f"{PREFIX}/history", show_history, methods=["GET"]),
    Route(f"{PREFIX}/history/live", follow(show_history, "/history"), methods=["GET"]),
]

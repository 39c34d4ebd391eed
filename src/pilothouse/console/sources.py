"""Chart sources: registries and repositories, what they have, and adding, synchronising and removing one."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, get_args
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console import words
from pilothouse.console.faults import NO_FAULTS, Faults, tell
from pilothouse.console.forms import Fields, read_keys, require_typed_name, writes
from pilothouse.console.rendering import is_partial, page, refusal
from pilothouse.console.requests import caller_of, here, read_form, see_other, too_long, wrong
from pilothouse.console.texts import gettext
from pilothouse.errors import Checks, InvalidRequest, InvalidSource, PilothouseError, SourceUnavailable
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.charts.signatures import MOST_BYTES
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.project_list import ProjectPage, ProjectReleases
from pilothouse.services.sources.charts import FoundChart, SourceCharts
from pilothouse.services.sources.pull import ChartPulls, SourceReference
from pilothouse.services.sources.records import (
    AddSource,
    ChangeSource,
    Credentials,
    PasswordMissing,
    Source,
    VerificationKind,
)
from pilothouse.services.sources.sources import Sources
from pilothouse.store.release_lists import ReleaseFilter, ReleaseItem, ReleaseSort

_PAGE: Final = 50
#: Releases that are named where their source may be removed.
_NAMED: Final = 5
_SOURCE: Final = "/sources/{source}"
#: As the API takes them.
_LONGEST: Final = {"url": 2000, "username": 256, "password": 16 * 1024, "ca": 256 * 1024}
#: What the forms of sources show, and how the services name a field in a sentence.
_SHOWN: Final = (*("name", "url", "username", "password", "ca", "verification", "keys", "sync_seconds", "version"),)
_CHANGED: Final = ("username", "password", "ca", "verification", "keys", "sync_seconds")
#: What the form of a change sends along as it was shown.
_COMPARED: Final = ("sync_seconds", "username")
_FIELD: Final = re.compile(r"(name|url|username|password|ca|verification|keys|sync_seconds|version)\b.*?:")


async def list_sources(request: Request) -> Response:
    """List the project's sources, or the charts of all of them that a search finds."""
    return await _list(request)


async def _list(
    request: Request, *, refused: Refusal | None = None, faults: Faults = NO_FAULTS, typed: Fields | None = None
) -> Response:
    caller = caller_of(request)
    return await page(
        request,
        "sources_list.html" if is_partial(request) else "sources.html",
        refused=refused,
        faults=faults,
        typed=typed or {},
        intervals=words.INTERVALS.items(),
        verifications=words.VERIFICATIONS,
        sources=await service_of(request, Sources).list_sources(caller),
        **await _search(request, "", at=f"{here(caller)}/sources"),
    )


async def _search(request: Request, source: str, *, at: str) -> dict[str, Any]:
    """Return what the list of charts shows; without a source and a word there is none."""
    query = {name: request.query_params.get(name, "").strip() for name in ("q", "devel", "marker")}
    found: list[FoundChart] = []
    if source or query["q"]:
        found = await service_of(request, SourceCharts).search(
            caller_of(request),
            source,
            words=query["q"],
            prereleases=bool(query["devel"]),
            after=query["marker"],
            limit=_PAGE + 1,
        )
    shown = found[:_PAGE]
    following = {**query, "marker": shown[-1].marker if len(found) > _PAGE else ""}
    return {
        "at": at,
        "query": query,
        "charts": shown,
        "first": f"{at}?{_write({**query, 'marker': ''})}",
        "after": f"{at}?{_write(following)}" if following["marker"] else "",
    }


def _write(query: Mapping[str, str]) -> str:
    return urlencode({name: value for name, value in query.items() if value})


async def add(request: Request) -> Response:
    """Add a source after it has answered."""
    fields = await read_form(request)
    caller = caller_of(request)
    try:
        made = await service_of(request, Sources).add(caller, _read(fields), request_id=request_id_of(request))
    except PilothouseError as error:
        refused = refusal(request, error)
        fields.pop("password", None)
        return await _list(request, refused=refused, faults=_tell(refused, error), typed=fields)
    return see_other(source_path(caller, made.name))


def _read(fields: Fields) -> AddSource:
    """Return the source of the form; raise InvalidRequest with all fields that are wrong."""
    checks, username, password = Checks(), fields.get("username", ""), fields.get("password", "")
    for name, most in _LONGEST.items():
        checks.read(partial(_limit, fields, name, most))
    seconds = checks.read(lambda: _read_seconds(fields))
    verification = checks.read(lambda: _read_verification(fields))
    keys = checks.read(lambda: read_keys(fields, most=MOST_BYTES))
    checks.end()
    url = fields.get("url", "").strip()
    return AddSource(
        name=fields.get("name", "").strip(),
        kind="oci" if url.startswith("oci://") else "http",
        url=url,
        credentials=Credentials(username, password) if username or password else None,
        ca=fields.get("ca", "").strip(),
        sync_seconds=seconds or 0,
        verification=verification or "none",
        verification_keys=keys or "",
    )


def _limit(fields: Fields, name: str, most: int) -> None:
    if len(fields.get(name, "")) > most:
        raise too_long(name, most)


def _read_seconds(fields: Fields) -> int:
    seconds = fields.get("sync_seconds", "")
    if not re.fullmatch(r"[0-9]{1,7}", seconds):
        raise wrong("sync_seconds", gettext("%(given)s is not a number of seconds", given=repr(seconds[:40])))
    return int(seconds)


def _read_verification(fields: Fields) -> VerificationKind:
    kinds: tuple[VerificationKind, ...] = get_args(VerificationKind)
    verification = next((kind for kind in kinds if kind == fields.get("verification", "none")), None)
    if verification is None:
        raise wrong("verification", gettext("choose one of %(choices)s", choices=", ".join(kinds)))
    return verification


def _tell(refused: Refusal, error: PilothouseError) -> Faults:
    """Return what is wrong in a form, and in which field; what the source itself did is told at its address."""
    return tell(
        refused, *_SHOWN, named=_FIELD, otherwise="url" if isinstance(error, SourceUnavailable | InvalidSource) else ""
    )


def _tell_part(refused: Refusal | None, part: str) -> Faults:
    """Return the same for a form of a source's page."""
    if part == "change":
        return tell(refused, *_CHANGED, named=_FIELD)
    return tell(refused, *(("confirm",) if part == "delete" else ()))


def source_path(caller: Caller, name: str) -> str:
    """Return the path of a source's page."""
    return f"{here(caller)}/sources/{quote(name, safe='')}"


async def show_source(request: Request) -> Response:
    """Show a source with its charts."""
    return await _show(request)


async def _show(
    request: Request,
    *,
    refused: Refusal | None = None,
    part: str = "",
    faults: Faults = NO_FAULTS,
    typed: Fields | None = None,
) -> Response:
    caller, partial_page = caller_of(request), is_partial(request)
    source = await service_of(request, Sources).show(caller, request.path_params["source"])
    return await page(
        request,
        "source_charts.html" if partial_page else "source.html",
        losing=None if partial_page else await _losing(request, source.name),
        refused=refused,
        part=part,
        faults=faults if faults.text else _tell_part(refused, part),
        intervals=words.INTERVALS.items(),
        verifications=words.VERIFICATIONS,
        typed=_still_typed(typed or {}),
        source=source,
        **await _search(request, source.id, at=source_path(caller, source.name)),
    )


async def _losing(request: Request, name: str) -> ProjectPage[ReleaseItem] | None:
    """Return the first releases of the source and their number; None for who may not list them."""
    caller = caller_of(request)
    if not (caller.may("cce:source:delete") and caller.may("cce:source:list")):
        return None
    if not caller.may_somewhere("cce:release:list"):
        return None
    order = ReleaseSort("cluster")
    return await service_of(request, ProjectReleases).list_releases(
        caller, ReleaseFilter(source=name), sort=order, limit=_NAMED, totals=True
    )


async def _sync(request: Request, _fields: Fields) -> str:
    caller, named = caller_of(request), request.path_params["source"]
    found = await service_of(request, Sources).sync(caller, named, request_id=request_id_of(request))
    return source_path(caller, found.name)


async def _change(request: Request, fields: Fields) -> str:
    caller, sources, named = caller_of(request), service_of(request, Sources), request.path_params["source"]
    source = await sources.show(caller, named)
    change = _read_change(fields, source)
    try:
        changed = await sources.change(caller, source.id, change, request_id=request_id_of(request))
    except PasswordMissing:
        raise wrong(
            "password",
            gettext(
                "missing; the one that is stored was given for the certificates of before. Type it again, or tick that "
                "there is none any more"
            ),
        ) from None
    return source_path(caller, changed.name)


def _read_change(fields: Fields, source: Source) -> ChangeSource:
    """Return what the form changes of the source; raise InvalidRequest with all fields that are wrong, or for none."""
    checks = Checks()
    for name, most in _LONGEST.items():
        checks.read(partial(_limit, fields, name, most))
    seconds = checks.read(lambda: _read_other_seconds(fields, source))
    verification = checks.read(lambda: _read_verification(fields)) if fields.get("verification") else None
    keys = checks.read(lambda: read_keys(fields, most=MOST_BYTES))
    credentials = checks.read(lambda: _read_credentials(fields, source))
    ca = checks.read(lambda: _read_ca(fields))
    if keys and verification is None:
        checks.read(partial(_refuse, "verification", gettext("choose how the charts are verified with these keys")))
    checks.end()
    change = ChangeSource(
        credentials=credentials,
        ca=ca,
        sync_seconds=seconds,
        verification=verification,
        verification_keys=keys or "",
    )
    if change == ChangeSource():
        raise InvalidRequest(gettext("Nothing was filled in that differs from what the source has."))
    return change


def _read_other_seconds(fields: Fields, source: Source) -> int | None:
    """Return the interval of the form; None if it is as the page showed it, whatever the source has now."""
    seconds, shown = _read_seconds(fields), fields.get("shown_sync_seconds") or str(source.sync_seconds)
    if fields["sync_seconds"] == shown or seconds == source.sync_seconds:
        return None
    if shown != str(source.sync_seconds):
        raise wrong("sync_seconds", gettext("it was changed since it was shown; look at what it is now, and again"))
    return seconds


def _read_credentials(fields: Fields, source: Source) -> Credentials | None:
    """Return the credentials of the form; None if they stay as they are."""
    username, password = fields.get("username", ""), fields.get("password", "")
    shown = fields.get("shown_username", source.username)
    if "no_credentials" in fields:
        if password or username not in {"", shown}:
            name = "password" if password else "username"
            raise wrong(name, gettext("given, although none is to be left; take one of the two back"))
        return Credentials("", "")
    if username == shown and not password:
        return None
    if shown != source.username:
        raise wrong("username", gettext("it was changed since it was shown; look at what it is now, and again"))
    if not password:
        raise wrong("password", gettext("missing; give it together with the user name"))
    return Credentials(username, password)


def _read_ca(fields: Fields) -> str | None:
    """Return the certificates of the form; None if they stay as they are."""
    ca = fields.get("ca", "").strip()
    if ca and "no_ca" in fields:
        raise wrong("ca", gettext("given, although none is to be left; take one of the two back"))
    return ca if ca or "no_ca" in fields else None


def _still_typed(typed: Fields) -> Fields:
    """Return what was typed, but for what was left as it was shown: the source may have something else by now."""
    left = {name for name in _COMPARED if f"shown_{name}" in typed and typed.get(name) == typed[f"shown_{name}"]}
    return {name: value for name, value in typed.items() if name not in left}


def _refuse(name: str, text: str) -> None:
    raise wrong(name, text)


async def _remove(request: Request, fields: Fields) -> str:
    caller, sources, named = caller_of(request), service_of(request, Sources), request.path_params["source"]
    name = (await sources.show(caller, named)).name
    require_typed_name(fields, name, ask=gettext("type the source's name, %(name)s, to remove it", name=name))
    await sources.remove(caller, named, request_id=request_id_of(request))
    return f"{here(caller)}/sources"


async def find_chart(request: Request) -> Response:
    """Lead to the version of a chart that a registry has, which need not be known of it yet."""
    caller, named = caller_of(request), request.path_params["source"]
    fields = {name: request.query_params.get(name, "").strip() for name in ("name", "version")}
    try:
        source = await service_of(request, Sources).show(caller, named)
        reference = SourceReference(source=source.id, **fields)
        row = await service_of(request, ChartPulls).choose(caller, reference)
    except PilothouseError as error:
        refused = refusal(request, error)
        return await _show(request, refused=refused, part="find", faults=_tell(refused, error), typed=fields)
    return see_other(f"{source_path(caller, source.name)}/charts/{quote(row.name)}/{quote(row.version, safe='')}")


ROUTES: Final = [
    Route("/sources", list_sources, methods=["GET"]),
    Route("/sources", add, methods=["POST"]),
    Route(_SOURCE, show_source, methods=["GET"]),
    Route(f"{_SOURCE}/find", find_chart, methods=["GET"]),
    Route(f"{_SOURCE}/change", writes(_show, "change", _change), methods=["POST"]),
    Route(f"{_SOURCE}/sync", writes(_show, "sync", _sync), methods=["POST"]),
    Route(f"{_SOURCE}/delete", writes(_show, "delete", _remove), methods=["POST"]),
]

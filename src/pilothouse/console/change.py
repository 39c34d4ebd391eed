"""Change a release: other values, another version of its chart, or both; the plan of that, over what the person saw."""

from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.auth.policy import READ_VALUES
from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.console.faults import NO_FAULTS, Faults
from pilothouse.console.plan_words import WAITS
from pilothouse.console.plans import plan_path, read_again
from pilothouse.console.release import PREFIX, place_of, read_revision, read_revision_of, show_head, show_page
from pilothouse.console.release_writes import release_path
from pilothouse.console.requests import caller_of, read_form, see_other
from pilothouse.console.side_by_side import Group, compare_lines, group_lines
from pilothouse.console.texts import gettext
from pilothouse.console.value_forms import (
    MODES,
    MOST_CHARTS,
    STORED,
    Fields,
    dump_defaults,
    end_with_values,
    find_chart,
    find_charts,
    judge_values,
    name_origins,
    read_change,
    read_mode,
    read_text,
    tell_faults,
)
from pilothouse.engine.protocol import ValuesLayer
from pilothouse.errors import Checks, NotFound, PilothouseError, PlanMoved
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import service_of
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.off_loop import off_loop
from pilothouse.services.clusters import Clusters
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.deploy import DeployRelease
from pilothouse.services.releases.details import ReleaseDetail, ReleaseDetails
from pilothouse.services.releases.parts import ReleaseParts
from pilothouse.services.releases.plans import Plans
from pilothouse.services.sources.pull import ChartPulls, SourceReference

_UPDATE: Final = "cce:release:update"
_LARGE: Final = 2**20


@dataclass(frozen=True)
class Now:
    """The newest revision as the person may see it: the values that were given; ``masked``: not all as they are."""

    stored: StoredRelease = field(repr=False)
    given: str = field(repr=False)
    masked: bool


@dataclass(frozen=True)
class Moved:
    """What was written while a form was filled in: the values given before and now, side by side."""

    seen: int
    now: int
    groups: list[Group] = field(repr=False)


async def ask_change(request: Request) -> Response:
    """Show the form with what the release has; with ``plan`` filled in as for that plan."""
    caller = caller_of(request)
    caller.require(_UPDATE)
    now, failed = await _read(request), None
    if source := request.query_params.get("source", ""):
        version = request.query_params.get("version", "")
        reference = SourceReference(source=source, name=now.stored.chart_name, version=version)
        try:
            row = await service_of(request, ChartPulls).choose(caller, reference)
        except PilothouseError as error:
            failed = error
        else:
            return see_other(f"{release_path(request)}/change?chart={row.id}")
    detail = await show_head(request)
    fields = {
        "chart": request.query_params.get("chart", "") or await _find_own_chart(request, now.stored, detail.chart_id),
        "values": "" if now.masked else now.given,
        "mode": "reset_then_reuse" if now.masked else "replace",
        "revision": str(now.stored.revision),
    }
    if request.query_params.get("force_conflicts") == "yes":
        fields["force_conflicts"] = "yes"
    if plan_id := request.query_params.get("plan", ""):
        fields |= {"values": ""} | await read_again(request, plan_id, place=place_of(request))
    refused, faults = await tell_faults(request, failed, fields) if failed is not None else (None, NO_FAULTS)
    return await _form(request, fields, now, refused=refused, faults=faults, detail=detail, is_fresh=not plan_id)


async def plan_change(request: Request) -> Response:
    """Make the plan that the form asks for, and lead to it; refused if the release moved since the form was shown."""
    fields = await read_form(request)
    caller, plans, moved = caller_of(request), service_of(request, Plans), None
    caller.require(_UPDATE)
    now = await _read(request)
    if "show" in fields:
        return await _form(request, fields, now)
    try:
        seen = _read_seen(fields)
        if seen != now.stored.revision:
            moved = await _compare(request, seen, now)
            raise _moved(seen, now.stored.revision)
        plan = await plans.make(caller, place_of(request), await _read_change(request, fields))
        if plan.record.base.revision != seen:
            raise _moved(seen, plan.record.base.revision)
    except PilothouseError as error:
        refused, faults = await tell_faults(request, error, fields)
        return await _form(request, fields, now, refused=refused, faults=faults, moved=moved)
    return see_other(plan_path(caller, plan.row))


async def _read_change(request: Request, fields: Fields) -> DeployRelease:
    """Return what the form asks for; raise InvalidRequest with all fields that are wrong."""
    checks = Checks()
    mode = checks.read(lambda: read_mode(fields)) or "replace"
    change = checks.read(lambda: read_change(fields, mode=mode))
    await end_with_values(request, fields, checks)
    found = cast("DeployRelease", change)
    if found.chart_id == STORED:
        found = replace(found, chart_id="", chart_revision=_read_seen(fields))
    return found


def _read_seen(fields: Fields) -> int | None:
    """Return the revision that the form is over."""
    return read_revision(fields.get("over", "") or fields.get("revision", ""), "revision")


async def judge(request: Request) -> Response:
    """Tell what Helm says about the values of the form, over those that it keeps."""
    fields = await read_form(request)
    mode, caller = read_mode(fields), caller_of(request)
    below: tuple[ValuesLayer, ...] | None = ()
    if mode != "replace":
        below = None
        if caller.may(READ_VALUES):
            stored = (await _read(request)).stored
            kept = stored.values if mode == "reuse" else stored.config
            below = (ValuesLayer("object", orjson.dumps(kept).decode(), "kept"),)
    return await judge_values(request, fields, below)


def _moved(seen: int | None, now: int) -> PlanMoved:
    return PlanMoved(
        gettext(
            "revision %(now)s was written since this form was shown, which was over revision %(seen)s",
            now=now,
            seen=seen or gettext("none"),
        )
    )


async def _read(request: Request) -> Now:
    caller, stored = await read_revision_of(request, None, part="values")
    given, masked = await _dump_given(request, caller, stored)
    return Now(stored, given, masked)


async def _dump_given(request: Request, caller: Caller, stored: StoredRelease) -> tuple[str, bool]:
    """Return the values that were given, and whether some are masked."""
    values = (await service_of(request, ReleaseParts).show_values(caller, stored, "user")).values
    text = await off_loop(lambda: dump_yaml(values), size=_LARGE) if values else ""
    return text, values != stored.config


async def _compare(request: Request, seen: int | None, now: Now) -> Moved:
    """Return what was given with the revision that the person saw, if it is still there, beside what is given now."""
    caller, old = caller_of(request), ""
    if seen is not None:
        details = service_of(request, ReleaseDetails)
        try:
            stored = await details.read_stored(await details.locate(caller, place_of(request)), seen)
            old, _ = await _dump_given(request, caller, stored)
        except NotFound:
            old = ""
    groups = await off_loop(lambda: group_lines(compare_lines(old.splitlines(), now.given.splitlines())), size=_LARGE)
    return Moved(seen or 0, now.stored.revision, groups)


async def _find_own_chart(request: Request, stored: StoredRelease, made_from: str) -> str:
    """Return the id of the chart that the release was made from, else of one of that name and version.

    If there is none, it is the one that the release stores.
    """
    if await find_chart(request, made_from) is not None:
        return made_from
    for version in await find_charts(request, name=stored.chart_name):
        if version.version == stored.chart_version:
            return version.id
    return STORED


async def _find_wait(request: Request) -> str:
    """Return how operations of the cluster wait, in words; empty for who may not see it."""
    caller = caller_of(request)
    if not caller.may("cce:cluster:get"):
        return ""
    cluster_id = (await service_of(request, ReleaseDetails).locate(caller, place_of(request))).cluster
    return WAITS.get((await service_of(request, Clusters).show(caller, cluster_id)).wait, "")


async def _form(
    request: Request,
    fields: Fields,
    now: Now,
    *,
    refused: Refusal | None = None,
    faults: Faults = NO_FAULTS,
    moved: Moved | None = None,
    detail: ReleaseDetail | None = None,
    is_fresh: bool = False,
) -> Response:
    chosen, at = fields.get("chart", ""), release_path(request)
    chart, query = await find_chart(request, chosen), request.scope["query_string"].decode("latin-1")
    charts = await find_charts(request, name=now.stored.chart_name, chosen=chosen)
    more: dict[str, Any] = {
        "fields": fields,
        "text": read_text(fields),
        "faults": faults,
        "is_fresh": is_fresh,
        "chart": chart,
        "defaults": await dump_defaults(chart),
        "charts": charts,
        "stored": now.stored,
        "origins": await name_origins(request, charts),
        "most_charts": MOST_CHARTS,
        "modes": MODES,
        "mode": fields["mode"] if fields.get("mode") in MODES else "replace",
        "now": now,
        "moved": moved,
        "action": f"{at}/change{'?' + query if query else ''}",
        "judge": f"{at}/change/judge",
        "cluster_wait": await _find_wait(request),
        "limit_seconds": request.app.state.settings.worker.timeout_seconds,
    }
    return await show_page(request, "release_change.html", tab="values", refused=refused, detail=detail, **more)


ROUTES: Final = [
    Route(f"{PREFIX}/change", ask_change, methods=["GET"]),
    Route(f"{PREFIX}/change", plan_change, methods=["POST"]),
    Route(f"{PREFIX}/change/judge", judge, methods=["POST"]),
]

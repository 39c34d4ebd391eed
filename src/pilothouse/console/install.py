"""Install a chart: the form, the judgement of its values, and the plan that it makes."""

from functools import partial
from typing import Final, cast
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.faults import NO_FAULTS, Faults
from pilothouse.console.plan_words import WAITS
from pilothouse.console.plans import plan_path, read_again
from pilothouse.console.rendering import page
from pilothouse.console.requests import caller_of, here, read_form, see_other
from pilothouse.console.texts import gettext
from pilothouse.console.value_forms import (
    MOST_CHARTS,
    Fields,
    dump_defaults,
    end_with_values,
    find_chart,
    find_charts,
    judge_values,
    name_origins,
    read_change,
    read_text,
    require,
    tell_faults,
)
from pilothouse.errors import AlreadyExists, Checks, NotFound, PilothouseError
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import service_of
from pilothouse.services.clusters import Cluster, Clusters
from pilothouse.services.releases.deploy import DeployRelease
from pilothouse.services.releases.details import ReleaseDetails, ReleaseRef
from pilothouse.services.releases.names import check_any_name, check_namespace
from pilothouse.services.releases.plans import Plans
from pilothouse.services.sources.pull import ChartPulls, SourceReference
from pilothouse.states import UNSETTLED, Action, ReleaseStatus

_CREATE: Final = "cce:release:create"
#: What the address can say.
_NAMED: Final = ("chart", "cluster", "namespace", "name")
#: The same for a chart of a source, which is pulled then.
_SOURCED: Final = ("source", "of", "version")


async def ask_install(request: Request) -> Response:
    """Show the form; with ``plan`` filled in as for that plan."""
    caller = caller_of(request)
    caller.require(_CREATE)
    fields = {name: request.query_params.get(name, "") for name in (*_NAMED, *_SOURCED)}
    source, name, version = (fields.pop(name) for name in _SOURCED)
    if source:
        reference = SourceReference(source=source, name=name, version=version)
        row = await service_of(request, ChartPulls).choose(caller, reference)
        return see_other(f"{here(caller)}/install?{urlencode({**fields, 'chart': row.id})}")
    if plan_id := request.query_params.get("plan", ""):
        fields |= await read_again(request, plan_id)
    return await _form(request, fields, is_fresh=not plan_id)


async def plan_install(request: Request) -> Response:
    """Make the plan that the form asks for, and lead to it; with ``show`` only show the chart that it names."""
    fields = await read_form(request)
    caller = caller_of(request)
    if "show" in fields:
        return await _form(request, fields)
    try:
        caller.require(_CREATE)
        place, change = await _read(request, fields)
        await _refuse_existing(request, place)
        plan = await service_of(request, Plans).make(caller, place, change)
        if plan.record.action is not Action.INSTALL:
            raise _exists(place)
    except PilothouseError as error:
        refused, faults = await tell_faults(request, error, fields)
        return await _form(request, fields, refused=refused, faults=faults, exists=isinstance(error, AlreadyExists))
    return see_other(plan_path(caller, plan.row))


async def _read(request: Request, fields: Fields) -> tuple[ReleaseRef, DeployRelease]:
    """Return where the release is to be, and what it is; raise InvalidRequest with all fields that are wrong."""
    checks, missing = Checks(), gettext("missing")
    cluster = checks.read(partial(require, fields, "cluster", gettext("missing; choose one"))) or ""
    namespace = checks.read(partial(require, fields, "namespace", missing)) or ""
    name = checks.read(partial(require, fields, "name", missing)) or ""
    if namespace:
        checks.read(lambda: check_namespace(namespace))
    if name:
        checks.read(lambda: check_any_name(name))
    change = checks.read(lambda: read_change(fields, mode="replace"))
    await end_with_values(request, fields, checks)
    return ReleaseRef(cluster, namespace, name), cast("DeployRelease", change)


async def judge(request: Request) -> Response:
    """Tell what Helm says about the values of the form."""
    return await judge_values(request, await read_form(request), ())


async def _refuse_existing(request: Request, place: ReleaseRef) -> None:
    try:
        found = await service_of(request, ReleaseDetails).show_head(caller_of(request), place)
    except NotFound:
        return  # the plan tells what of it does not exist
    if found.release.status != ReleaseStatus.UNINSTALLED and found.release.status not in UNSETTLED:
        raise _exists(place)


def _exists(place: ReleaseRef) -> AlreadyExists:
    problem = gettext(
        "release %(name)s exists in namespace %(namespace)s already; take another name, or change that one",
        name=repr(place.name),
        namespace=repr(place.namespace),
    )
    return AlreadyExists(f"name: {problem}")


async def _form(
    request: Request,
    fields: Fields,
    *,
    refused: Refusal | None = None,
    faults: Faults = NO_FAULTS,
    is_fresh: bool = False,
    exists: bool = False,
) -> Response:
    caller, chart = caller_of(request), await find_chart(request, fields.get("chart", ""))
    query = request.scope["query_string"].decode("latin-1")
    charts, clusters = await find_charts(request, chosen=fields.get("chart", "")), await _clusters(request)
    return await page(
        request,
        "install.html",
        refused=refused,
        fields=fields,
        text=read_text(fields),
        faults=faults,
        is_fresh=is_fresh,
        exists=exists,
        chart=chart,
        defaults=await dump_defaults(chart),
        charts=charts,
        origins=await name_origins(request, charts),
        most_charts=MOST_CHARTS,
        clusters=[cluster.name for cluster in clusters],
        cluster_wait=waits.pop() if len(waits := {WAITS.get(cluster.wait, "") for cluster in clusters}) == 1 else "",
        limit_seconds=request.app.state.settings.worker.timeout_seconds,
        no_clusters=not clusters and caller.may("cce:cluster:list"),
        action=f"{here(caller)}/install{'?' + query if query else ''}",
        judge=f"{here(caller)}/install/judge",
    )


async def _clusters(request: Request) -> list[Cluster]:
    caller = caller_of(request)
    return await service_of(request, Clusters).list_clusters(caller) if caller.may("cce:cluster:list") else []


ROUTES: Final = [
    Route("/install", ask_install, methods=["GET"]),
    Route("/install", plan_install, methods=["POST"]),
    Route("/install/judge", judge, methods=["POST"]),
]

"""Clusters: how current their data is, whether they answer; registering one, its credentials, and its removal."""

from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console import words
from pilothouse.console.faults import NO_FAULTS, Faults, tell
from pilothouse.console.forms import Fields, require_typed_name, writes
from pilothouse.console.rendering import page, refusal
from pilothouse.console.requests import caller_of, here, read_form, see_other
from pilothouse.console.texts import gettext
from pilothouse.console.walls import WALL_FIELDS, read_wall, remove_wall, set_wall, typed_wall
from pilothouse.errors import (
    Checks,
    ClusterDenied,
    ClusterUnavailable,
    InvalidKubeconfig,
    InvalidRequest,
    PilothouseError,
    SeveralWrong,
)
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.cluster_drift import ClusterDrift
from pilothouse.services.clusters import Cluster, Clusters
from pilothouse.services.releases.project_list import ProjectReleases
from pilothouse.services.walls import SET_WALL, digest_of
from pilothouse.store.release_lists import ReleaseFilter, ReleaseSort

#: The fields of the forms of a cluster's page, by the part that they are in.
_SHOWN: Final = {
    "wall": WALL_FIELDS,
    "unwall": ("confirm",),
    "remove": ("confirm",),
    "kubeconfig": ("kubeconfig", "context"),
}

#: Intervals of looks at drift that the form offers beside the one that is set, in seconds.
_OFTEN: Final = (600, 3600, 6 * 3600, 86400)
_LONGEST_SECONDS: Final = 10


async def list_clusters(request: Request) -> Response:
    """List the project's clusters with the state of their indexes."""
    caller, clusters = caller_of(request), service_of(request, Clusters)
    found = await clusters.list_clusters(caller)
    indexes = await clusters.list_indexes(caller) if caller.may("cce:cluster:get") else {}
    return await page(request, "clusters.html", clusters=found, indexes=indexes)


async def show_cluster(
    request: Request, *, refused: Refusal | None = None, part: str = "probe", typed: Fields | None = None
) -> Response:
    """Show one cluster; with ``probe`` it is asked for its version now."""
    caller, clusters = caller_of(request), service_of(request, Clusters)
    named = await clusters.identify(request.path_params["cluster"], project_id=caller.project_id)
    cluster, index = await clusters.show(caller, named.id), await clusters.show_index(caller, named.id)
    totals: dict[str, int] = {}
    if caller.may("cce:release:list"):
        filters, order = ReleaseFilter(cluster=cluster.id), ReleaseSort("name")
        service = service_of(request, ProjectReleases)
        totals = dict((await service.list_releases(caller, filters, sort=order, limit=1, totals=True)).totals or {})
    answer = ""
    if "probe" in request.query_params and request.method == "GET":
        try:
            answer = (await clusters.probe(caller, cluster.id)).version
        except PilothouseError as error:
            refused = refusal(request, error)
    return await page(
        request,
        "cluster.html",
        cluster=cluster,
        refused=refused,
        part=part,
        typed=typed or {},
        faults=tell(refused, *_SHOWN.get(part, ())),
        wall_typed=typed if typed and part == "wall" else typed_wall(cluster.wall),
        shown=digest_of(cluster.wall),
        may_wall=caller.may_in_account(SET_WALL),
        index=index,
        looks=_looks(request, cluster),
        others=await clusters.list_other_names(caller, cluster.id),
        totals=[(str(status), totals[status]) for status in words.LISTED if totals.get(status)],
        answer=answer,
    )


def _looks(request: Request, cluster: Cluster) -> dict[str, Any]:
    """Return how the cluster's releases are looked at for drift, and the intervals to choose from."""
    drift = service_of(request, ClusterDrift)
    return {
        "seconds": drift.seconds_of(cluster),
        "server_seconds": drift.server_seconds,
        "requests_per_second": drift.requests_per_second,
        "choices": sorted({*_OFTEN, cluster.drift_seconds or _OFTEN[0]}) if drift.requests_per_second else [],
    }


async def _set_drift(request: Request, fields: Fields) -> str:
    caller, clusters = caller_of(request), service_of(request, Clusters)
    named = await clusters.identify(request.path_params["cluster"], project_id=caller.project_id)
    often = fields.get("often", "")
    if often != "default" and not (often.isascii() and often.isdigit() and len(often) < _LONGEST_SECONDS):
        raise InvalidRequest(gettext("choose how often its releases are looked at"))
    seconds = None if often == "default" else int(often)
    await service_of(request, ClusterDrift).set_seconds(caller, named.id, seconds, request_id=request_id_of(request))
    return f"{here(caller)}/clusters/{quote(named.name, safe='')}#drift"


async def _replace(request: Request, fields: Fields) -> str:
    caller, clusters = caller_of(request), service_of(request, Clusters)
    named = await clusters.identify(request.path_params["cluster"], project_id=caller.project_id)
    await clusters.replace_kubeconfig(
        caller,
        named.id,
        kubeconfig=fields.get("kubeconfig", ""),
        context=fields.get("context", "").strip() or None,
        force="force" in fields,
        request_id=request_id_of(request),
    )
    return f"{here(caller)}/clusters/{quote(named.name, safe='')}?probe=1"


async def _remove(request: Request, fields: Fields) -> str:
    caller, clusters = caller_of(request), service_of(request, Clusters)
    caller.require("cce:cluster:delete")
    named = await clusters.identify(request.path_params["cluster"], project_id=caller.project_id)
    ask = gettext("type the cluster's name, %(name)s, to remove it", name=named.name)
    require_typed_name(fields, named.name, ask=ask)
    await clusters.remove(caller, named.id, request_id=request_id_of(request))
    return f"{here(caller)}/clusters"


async def ask_registration(request: Request) -> Response:
    """Show the form that registers a cluster."""
    caller_of(request).require("cce:cluster:create")
    return await _form(request, {})


async def register(request: Request) -> Response:
    """Register a cluster after it has answered."""
    fields = await read_form(request)
    caller, clusters = caller_of(request), service_of(request, Clusters)
    given: dict[str, Any] = {
        "name": fields.get("name", "").strip(),
        "kubeconfig": fields.get("kubeconfig", ""),
        "context": fields.get("context", "").strip() or None,
    }
    try:
        wall, checks = None, Checks()
        if any(fields.get(name, "").strip() for name in WALL_FIELDS):
            wall = checks.read(lambda: read_wall(fields))
        if checks.found:
            checks.read(lambda: clusters.check_registration(caller, **given))
        checks.end()
        made = await clusters.register(caller, **given, wall=wall, request_id=request_id_of(request))
    except PilothouseError as error:
        refused = refusal(request, error)
        errors = error.errors if isinstance(error, SeveralWrong) else [error]
        of_cluster = any(isinstance(error, InvalidKubeconfig | ClusterUnavailable | ClusterDenied) for error in errors)
        shown = ("name", "kubeconfig", "context", *WALL_FIELDS)
        faults = tell(refused, *shown, otherwise="kubeconfig" if of_cluster else "")
        return await _form(request, fields, refused=refused, faults=faults)
    return see_other(f"{here(caller)}/clusters/{quote(made.name, safe='')}")


async def _form(
    request: Request, fields: Fields, *, refused: Refusal | None = None, faults: Faults = NO_FAULTS
) -> Response:
    return await page(
        request,
        "cluster_new.html",
        refused=refused,
        fields=fields,
        wall_typed=fields,
        faults=faults,
        may_wall=caller_of(request).may_in_account(SET_WALL),
    )


ROUTES: Final = [
    Route("/clusters", list_clusters, methods=["GET"]),
    Route("/clusters", register, methods=["POST"]),
    Route("/clusters/new", ask_registration, methods=["GET"]),
    Route("/clusters/{cluster}", show_cluster, methods=["GET"]),
    Route("/clusters/{cluster}/live", show_cluster, methods=["GET"]),
    Route("/clusters/{cluster}/kubeconfig", writes(show_cluster, "kubeconfig", _replace), methods=["POST"]),
    Route("/clusters/{cluster}/wall", writes(show_cluster, "wall", set_wall), methods=["POST"]),
    Route("/clusters/{cluster}/wall/remove", writes(show_cluster, "unwall", remove_wall), methods=["POST"]),
    Route("/clusters/{cluster}/drift", writes(show_cluster, "drift", _set_drift), methods=["POST"]),
    Route("/clusters/{cluster}/remove", writes(show_cluster, "remove", _remove), methods=["POST"]),
]

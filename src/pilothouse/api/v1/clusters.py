"""Clusters: register, list, show, remove, probe. Specific to Pilothouse; the vendor's API manages clusters itself."""

from typing import Annotated, ClassVar

from fastapi import Query
from pydantic import AfterValidator, FailFast, Field

from pilothouse import errors
from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed, allowed_in_account, service
from pilothouse.api.v1.models import Body, Seconds, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.http.json_bodies import KUBECONFIG, JsonLimits
from pilothouse.services.cluster_drift import ClusterDrift
from pilothouse.services.cluster_walls import ClusterWalls
from pilothouse.services.clusters import Cluster, Clusters
from pilothouse.services.walls import Wall

router = native_router("/api/v1/clusters", tag="clusters")
ClustersService = Annotated[Clusters, service(Clusters)]
DriftService = Annotated[ClusterDrift, service(ClusterDrift)]
WallsService = Annotated[ClusterWalls, service(ClusterWalls)]


class SetWall(Body):
    """The project's namespaces in the cluster, and the user and groups that the registered account impersonates."""

    namespaces: Annotated[list[str], FailFast()]
    user: str
    groups: Annotated[list[str], FailFast()] = Field(default_factory=list)


class CreateCluster(Body):
    """A name and the text of a kubeconfig; ``context`` selects one if the kubeconfig has several.

    ``wall`` needs an administrator of the account.
    """

    limits: ClassVar[JsonLimits] = KUBECONFIG

    name: str
    kubeconfig: str
    context: str | None = None
    wall: SetWall | None = None


class ReplaceKubeconfig(Body):
    """The text of a kubeconfig; ``context`` selects one if the kubeconfig has several."""

    limits: ClassVar[JsonLimits] = KUBECONFIG

    kubeconfig: str
    context: str | None = None


class SetDrift(Body):
    """How often the cluster's releases are looked at for drift: 60 to 2,592,000 seconds.

    0: never; null: as the server's settings say.
    """

    seconds: int | None


class WallView(View):
    """The namespaces in which the project works, and the user and groups by whose rights Kubernetes judges it."""

    namespaces: list[str]
    user: str
    groups: list[str]


class ClusterView(View):
    """A registered cluster; its credentials are never shown. ``wall``: what separates it from other projects there.

    ``drift_seconds``: how often its releases are to be looked at for drift; 0: never; null: as the settings say.
    """

    id: str
    name: str
    server: str
    wait: str
    created_at: Seconds
    wall: WallView | None
    drift_seconds: int | None


class ProbeView(View):
    """A cluster that answered."""

    reachable: bool = True
    version: str


class UnreadableSecretView(View):
    """A Secret of Helm's type that does not contain a valid release."""

    namespace: str
    name: Annotated[str, Field(validation_alias="secret")]
    problem: str


class IndexView(View):
    """The release index of a cluster.

    ``listed``: its first list is complete; until then reads go to the cluster. ``age_seconds``: since the cluster last
    confirmed it. ``error``: why the cluster is not watched now, or empty. ``truncated``: the cluster has more release
    Secrets than the index takes; lists lack the others. ``unreadable``: the number of release Secrets that could not be
    decoded and are not shown; ``unreadable_secrets`` are the newest of them.
    """

    listed: bool
    age_seconds: Annotated[float, AfterValidator(lambda age: round(max(0.0, age), 1))] | None
    error: str
    truncated: bool
    unreadable: int
    unreadable_secrets: list[UnreadableSecretView]


class DriftView(View):
    """The looks at drift as they are made: how often (0: never), and the most requests per second for them."""

    seconds: float
    requests_per_second: float


class ClusterDetail(ClusterView):
    """One cluster with the state of its release index, and how its releases are looked at for drift.

    ``also_registered_as``: other names under which the project has registered the same API server.
    """

    also_registered_as: list[str]
    drift: DriftView
    index: IndexView


@router.post(
    "",
    status_code=201,
    response_model=ClusterView,
    dependencies=[allowed("cce:cluster:create")],
    responses=error_responses(errors.AlreadyExists),
)
async def register_cluster(
    body: CreateCluster, caller: CurrentCaller, clusters: ClustersService, request_id: RequestId
) -> Cluster:
    """Register a cluster after it answered with the given credentials."""
    wall = _wall(body.wall) if body.wall is not None else None
    return await clusters.register(caller, **dict(body) | {"wall": wall}, request_id=request_id)


def _wall(body: SetWall) -> Wall:
    return Wall(tuple(body.namespaces), body.user, tuple(body.groups))


@router.get("", response_model=list[ClusterView])
async def list_clusters(caller: CurrentCaller, clusters: ClustersService) -> list[Cluster]:
    """List the project's clusters by name."""
    return await clusters.list_clusters(caller)


@router.get("/{cluster_id}", response_model=ClusterDetail)
async def show_cluster(
    cluster_id: str, caller: CurrentCaller, clusters: ClustersService, drift: DriftService
) -> dict[str, object]:
    """Show one cluster, and the age of its release index."""
    cluster = await clusters.show(caller, cluster_id)
    index = await clusters.show_index(caller, cluster_id)
    others = await clusters.list_other_names(caller, cluster_id)
    unreadable = {"unreadable": index.unreadable.count, "unreadable_secrets": index.unreadable.first}
    looks = {"seconds": drift.seconds_of(cluster), "requests_per_second": drift.requests_per_second}
    index_view = {**vars(index.freshness), **unreadable}
    return {**vars(cluster), "also_registered_as": others, "drift": looks, "index": index_view}


@router.put("/{cluster_id}/kubeconfig", response_model=ClusterView, dependencies=[allowed("cce:cluster:update")])
async def replace_kubeconfig(
    *,
    cluster_id: str,
    body: ReplaceKubeconfig,
    caller: CurrentCaller,
    clusters: ClustersService,
    request_id: RequestId,
    force: Annotated[bool, Query(description="also if it may be another cluster")] = False,
) -> Cluster:
    """Replace the credentials of a cluster, after it answered with the new ones."""
    return await clusters.replace_kubeconfig(caller, cluster_id, **dict(body), force=force, request_id=request_id)


@router.put(
    "/{cluster_id}/wall", response_model=ClusterView, dependencies=[allowed_in_account("pilothouse:wall:update")]
)
async def set_wall(
    cluster_id: str, body: SetWall, caller: CurrentCaller, walls: WallsService, request_id: RequestId
) -> Cluster:
    """Set in which namespaces of a cluster the project works, and as whom. For administrators of the account."""
    return await walls.set_wall(caller, cluster_id, _wall(body), request_id=request_id)


@router.delete(
    "/{cluster_id}/wall", response_model=ClusterView, dependencies=[allowed_in_account("pilothouse:wall:update")]
)
async def remove_wall(cluster_id: str, caller: CurrentCaller, walls: WallsService, request_id: RequestId) -> Cluster:
    """Remove the wall: the project acts as the registered account again. For administrators of the account."""
    return await walls.set_wall(caller, cluster_id, None, request_id=request_id)


@router.put("/{cluster_id}/drift", response_model=ClusterView, dependencies=[allowed("cce:cluster:update")])
async def set_drift_interval(
    cluster_id: str, body: SetDrift, caller: CurrentCaller, drift: DriftService, request_id: RequestId
) -> Cluster:
    """Set how often the releases of a cluster are looked at for drift, within what the server's settings allow."""
    return await drift.set_seconds(caller, cluster_id, body.seconds, request_id=request_id)


@router.delete("/{cluster_id}", status_code=204)
async def remove_cluster(
    cluster_id: str, caller: CurrentCaller, clusters: ClustersService, request_id: RequestId
) -> None:
    """Remove a cluster; its releases are not affected."""
    await clusters.remove(caller, cluster_id, request_id=request_id)


@router.get("/{cluster_id}/probe", response_model=ProbeView)
async def probe_cluster(cluster_id: str, caller: CurrentCaller, clusters: ClustersService) -> ProbeView:
    """Query the cluster's API server for its version now."""
    return ProbeView(version=(await clusters.probe(caller, cluster_id)).version)

"""Clusters: register, list, show, remove, probe. Ours; the vendor's API has clusters of its own making."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from pilothouse.errors import InvalidRequest
from pilothouse.http.json_bodies import KUBECONFIG, read_json
from pilothouse.http.openapi import asks, takes
from pilothouse.http.requests import caller_of, json_response, request_id_of
from pilothouse.services.clusters import Cluster, ClusterIndex, Clusters


class RegisterCluster(BaseModel):
    """A name and the text of a kubeconfig; ``context`` chooses one if the kubeconfig has several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    kubeconfig: str
    context: str | None = None


class ReplaceKubeconfig(BaseModel):
    """The text of a kubeconfig; ``context`` chooses one if the kubeconfig has several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kubeconfig: str
    context: str | None = None


class ClusterView(BaseModel):
    """A registered cluster; its credentials are never shown."""

    id: str
    name: str
    server: str
    wait: str
    created_at: str


class ProbeView(BaseModel):
    """A cluster that answered."""

    reachable: bool
    version: str


class UnreadableSecretView(BaseModel):
    """A Secret that says it holds a release and does not."""

    namespace: str
    name: str
    problem: str


class IndexView(BaseModel):
    """The release index of a cluster.

    ``listed``: the first complete list is in it; until then reads ask the cluster. ``age_seconds``: since the cluster
    last confirmed it. ``error``: why the cluster is not watched now, or empty. ``truncated``: the cluster has more
    release Secrets than the index takes; lists lack the others. ``unreadable``: the number of release Secrets that
    could not be read and are not shown; ``unreadable_secrets`` are the newest of them.
    """

    listed: bool
    age_seconds: float | None
    error: str
    truncated: bool
    unreadable: int
    unreadable_secrets: list[UnreadableSecretView]


class ClusterDetail(ClusterView):
    """One cluster with the state of its release index."""

    index: IndexView


def routes(clusters: Clusters) -> APIRouter:
    """The cluster routes."""
    router = APIRouter(prefix="/api/v1/clusters", tags=["clusters"])

    @router.post("", status_code=201, response_model=ClusterView, openapi_extra=takes(RegisterCluster))
    async def register_cluster(request: Request) -> Response:
        """Registers a cluster after it answered with the given credentials."""
        caller_of(request).require("cce:cluster:create")  # before a large body is looked into
        body = await read_json(request, RegisterCluster, limits=KUBECONFIG)
        cluster = await clusters.register(
            caller_of(request),
            name=body.name,
            kubeconfig=body.kubeconfig,
            context=body.context,
            request_id=request_id_of(request),
        )
        return json_response(_view(cluster), status_code=201)

    @router.get("", response_model=list[ClusterView])
    async def list_clusters(request: Request) -> Response:
        """The project's clusters by name."""
        return json_response([_view(cluster) for cluster in await clusters.list_clusters(caller_of(request))])

    @router.get("/{cluster_id}", response_model=ClusterDetail)
    async def show_cluster(request: Request, cluster_id: str) -> Response:
        """One cluster, and how old what is known of its releases is."""
        cluster = await clusters.show(caller_of(request), cluster_id)
        index = await clusters.show_index(caller_of(request), cluster_id)
        return json_response(_view(cluster) | {"index": _index_view(index)})

    @router.put(
        "/{cluster_id}/kubeconfig",
        response_model=ClusterView,
        openapi_extra=takes(ReplaceKubeconfig) | asks(force="true: also if it may be another cluster"),
    )
    async def replace_kubeconfig(request: Request, cluster_id: str) -> Response:
        """Replaces the credentials of a cluster, after it answered with the new ones."""
        caller_of(request).require("cce:cluster:update")  # before a large body is looked into
        force = request.query_params.get("force", "false")
        if force not in {"true", "false"}:
            raise InvalidRequest(f"force: must be true or false, and is {force[:40]!r}")
        body = await read_json(request, ReplaceKubeconfig, limits=KUBECONFIG)
        cluster = await clusters.replace_kubeconfig(
            caller_of(request),
            cluster_id,
            kubeconfig=body.kubeconfig,
            context=body.context,
            force=force == "true",
            request_id=request_id_of(request),
        )
        return json_response(_view(cluster))

    @router.delete("/{cluster_id}", status_code=204)
    async def remove_cluster(request: Request, cluster_id: str) -> Response:
        """Forgets a cluster; the releases in it stay as they are."""
        await clusters.remove(caller_of(request), cluster_id, request_id=request_id_of(request))
        return Response(status_code=204)

    @router.get("/{cluster_id}/probe", response_model=ProbeView)
    async def probe_cluster(request: Request, cluster_id: str) -> Response:
        """Asks the cluster's API server for its version now."""
        version = await clusters.probe(caller_of(request), cluster_id)
        return json_response({"reachable": True, "version": version.version})

    return router


def _view(cluster: Cluster) -> dict[str, object]:
    return ClusterView(
        id=cluster.id,
        name=cluster.name,
        server=cluster.server,
        wait=cluster.wait,
        created_at=cluster.created_at.isoformat(timespec="seconds"),
    ).model_dump()


def _index_view(index: ClusterIndex) -> dict[str, object]:
    age = index.freshness.age_seconds
    return IndexView(
        listed=index.freshness.listed,
        age_seconds=None if age is None else round(max(0.0, age), 1),
        error=index.freshness.error,
        truncated=index.freshness.truncated,
        unreadable=index.unreadable.count,
        unreadable_secrets=[
            UnreadableSecretView(namespace=one.namespace, name=one.secret, problem=one.problem)
            for one in index.unreadable.first
        ],
    ).model_dump()

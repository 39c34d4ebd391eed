"""Clusters: register, list, show, remove, probe. Ours; the vendor's API has clusters of its own making."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from pilothouse.services.clusters import Cluster, Clusters
from pilothouse.web.requests import caller_of, json_response, read_json, request_id_of


class RegisterCluster(BaseModel):
    """A name and the text of a kubeconfig; ``context`` chooses one if the kubeconfig has several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    kubeconfig: str
    context: str | None = None


class ClusterView(BaseModel):
    """A registered cluster; its credentials are never shown."""

    id: str
    name: str
    server: str
    wait: str
    created_at: str


def routes(clusters: Clusters) -> APIRouter:
    """The cluster routes."""
    router = APIRouter(prefix="/api/v1/clusters", tags=["clusters"])

    @router.post("", status_code=201, response_model=ClusterView)
    async def register_cluster(request: Request) -> Response:
        """Registers a cluster after it answered with the given credentials."""
        body = await read_json(request, RegisterCluster)
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

    @router.get("/{cluster_id}", response_model=ClusterView)
    async def show_cluster(request: Request, cluster_id: str) -> Response:
        """One cluster."""
        return json_response(_view(await clusters.show(caller_of(request), cluster_id)))

    @router.delete("/{cluster_id}", status_code=204)
    async def remove_cluster(request: Request, cluster_id: str) -> Response:
        """Forgets a cluster; the releases in it stay as they are."""
        await clusters.remove(caller_of(request), cluster_id, request_id=request_id_of(request))
        return Response(status_code=204)

    @router.get("/{cluster_id}/probe")
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

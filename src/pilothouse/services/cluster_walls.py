"""Set and remove the walls of clusters; refuse what lies behind one."""

from pilothouse.errors import Forbidden, InvalidRequest
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.services.clusters import Cluster, Clusters, cluster_of, unknown_cluster
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import current_caller
from pilothouse.services.walls import SET_WALL, Wall, digest_of, refuse_shared_user, try_wall, wall_of
from pilothouse.store import audit, cluster_watches, clusters
from pilothouse.store.clusters import WallRow
from pilothouse.store.database import Database, retry_conflicts


class ClusterWalls:
    """Set and remove walls, for administrators of the account."""

    def __init__(self, database: Database, service: Clusters, clients: ClusterClients) -> None:
        self._database = database
        self._service = service
        self._clients = clients

    async def set_wall(
        self, caller: Caller, cluster_id: str, wall: Wall | None, *, request_id: str, shown: str = ""
    ) -> Cluster:
        """Set, change or (None) remove the wall of a cluster, after the cluster has said that it stands.

        ``shown``: only in place of the wall of that digest; InvalidRequest if it is another by now.
        The index is rebuilt by what may be seen from then on. Operations under way end as they began. Raises what
        ``try_wall`` and ``refuse_shared_user`` raise, and NotFound.
        """
        caller.require_in_account(SET_WALL)
        cluster = await self._service.reach(cluster_id, project_id=caller.project_id, impersonating=False)
        if wall is not None:
            wall.check()
            await try_wall(self._clients, cluster.kubeconfig, wall, project=cluster.project_id)
        return await self._store(caller, cluster_id, wall, request_id=request_id, shown=shown)

    @retry_conflicts
    async def _store(
        self, caller: Caller, cluster_id: str, wall: Wall | None, *, request_id: str, shown: str
    ) -> Cluster:
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(SET_WALL)
            if shown:
                held = await clusters.hold_cluster(tx, cluster_id, project_id=caller.project_id)
                if held is not None and shown != digest_of(wall_of(held)):
                    raise InvalidRequest("the wall was changed since it was shown; look at what it is now, and again")
            stored = wall.row if wall is not None else WallRow()
            row = await clusters.set_wall(tx, cluster_id, project_id=caller.project_id, wall=stored)
            if row is None:
                raise unknown_cluster(cluster_id)
            await refuse_shared_user(tx, row)
            await cluster_watches.forget_progress(tx, cluster_id)
            await cluster_watches.announce_change(tx, cluster_id)
            if wall is not None:
                await cluster_watches.forget_outside(tx, cluster_id, namespaces=wall.namespaces)
            await audit.record(
                tx,
                caller,
                SET_WALL,
                target=cluster_id,
                target_name=row.name,
                detail=wall.describe() if wall is not None else "removed",
                request_id=request_id,
            )
        return cluster_of(row)


def refuse_outside(cluster: Cluster, namespace: str) -> None:
    """Raise Forbidden for a namespace outside the wall, at once and by name; Kubernetes would refuse it, too."""
    wall = cluster.wall
    if wall is not None and namespace not in wall.namespaces:
        raise Forbidden(
            f"namespace: in cluster {cluster.name!r} this project works in {wall.where()}, and not "
            f"in {namespace!r}; an administrator of the account can change that (pilothouse cluster update)"
        )

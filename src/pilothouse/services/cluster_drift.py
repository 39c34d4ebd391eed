"""How often the releases of a cluster are looked at for drift."""

from typing import Final

from pilothouse.errors import InvalidRequest
from pilothouse.services.clusters import Cluster, cluster_of, unknown_cluster
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.settings import ObserverSettings
from pilothouse.store import audit, clusters
from pilothouse.store.database import Database, retry_conflicts

LEAST_SECONDS: Final = 60
MOST_SECONDS: Final = 30 * 24 * 3600


class ClusterDrift:
    """Read and set the interval of a cluster's looks; the server's settings bound what they cost."""

    def __init__(self, database: Database, settings: ObserverSettings) -> None:
        self._database = database
        self._settings = settings

    @property
    def requests_per_second(self) -> float:
        """The most requests per second for the looks at each cluster, by the settings; 0: the server makes none."""
        return self._settings.drift_requests_per_second

    @property
    def server_seconds(self) -> float:
        """The interval of clusters that say nothing; 0: they are not looked at."""
        return self._settings.drift_seconds if self.requests_per_second else 0

    def seconds_of(self, cluster: Cluster) -> float:
        """Return how often the cluster's releases are looked at; 0: never."""
        if cluster.drift_seconds is None or not self.requests_per_second:
            return self.server_seconds
        return cluster.drift_seconds

    @retry_conflicts
    async def set_seconds(self, caller: Caller, cluster_id: str, seconds: int | None, *, request_id: str) -> Cluster:
        """Set the interval: 0 for no looks, None for what the settings say. The observer follows within 10 s.

        Raises NotFound, and InvalidRequest for an interval out of bounds or on a server that makes no looks.
        """
        caller.require("cce:cluster:update")
        self._check(seconds)
        async with self._database.transaction() as tx:
            row = await clusters.set_drift_seconds(tx, cluster_id, project_id=caller.project_id, seconds=seconds)
            if row is None:
                raise unknown_cluster(cluster_id)
            await require_still(tx, caller, "cce:cluster:update")
            await audit.record(
                tx,
                caller,
                "cce:cluster:update",
                target=cluster_id,
                target_name=row.name,
                detail=f"looks at drift: {_describe(seconds)}",
                request_id=request_id,
            )
        return cluster_of(row)

    def _check(self, seconds: int | None) -> None:
        if not seconds:
            return
        if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
            raise InvalidRequest(
                f"seconds: {seconds} is not between {LEAST_SECONDS} and {MOST_SECONDS}; 0 is for no looks, and null "
                "for what the server's settings say"
            )
        if not self.requests_per_second:
            raise InvalidRequest(
                "seconds: this server makes no periodic looks at drift; whoever runs it can allow them with the "
                "setting PILOTHOUSE_OBSERVER__DRIFT_REQUESTS_PER_SECOND"
            )


def _describe(seconds: int | None) -> str:
    if seconds is None:
        return "as the settings say"
    return f"every {seconds} s" if seconds else "none"

"""Dependencies of every process: the first half of the composition root.

Separate from ``app``, so that a process that serves no HTTP does not load what serves it: that would cost a restarting
worker most of a second.
"""

import gc
from dataclasses import dataclass

from pilothouse import __version__
from pilothouse.auth.sealing import MasterKeys
from pilothouse.engine.pool import EnginePool
from pilothouse.kubernetes.addresses import resolve_server
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.metrics import BUILD_INFO
from pilothouse.services.clusters import Clusters
from pilothouse.services.free_space import FreeSpace
from pilothouse.settings import Settings
from pilothouse.store import schema_revision
from pilothouse.store.database import Database


@dataclass(frozen=True)
class Runtime:
    """The dependencies of every kind of process."""

    settings: Settings
    database: Database
    keys: MasterKeys
    clients: ClusterClients
    clusters: Clusters
    engine: EnginePool
    space: FreeSpace

    async def not_ready(self) -> str:
        """Return what this process lacks to do its work; empty if nothing; raises DatabaseUnavailable."""
        async with self.database.autocommit() as connection:
            problem = (await schema_revision.find_schema(connection)).problem
        return problem or await self.space.database_problem()

    async def engine_not_ready(self) -> str:
        """Return the same for a process that calls Helm."""
        if not self.engine.versions:
            return "no Helm engine is running"
        return await self.space.folder_problem() or await self.not_ready()

    def note_build(self, part: str) -> None:
        """Set the metric that tells which versions run as which part."""
        BUILD_INFO.labels(__version__, self.engine.versions.get("helm", ""), part).set(1)

    async def close(self) -> None:
        """Stop children and close connections."""
        await self.engine.close()
        await self.clients.close()
        await self.database.close()


def build_runtime(
    settings: Settings,
    *,
    database_url: str,
    engine_children: int,
    engine_waiting: int = 0,
    generic_plans: bool = False,
) -> Runtime:
    """Build the dependencies; nothing is started or connected yet.

    ``engine_waiting``: see ``EnginePool``; ``generic_plans``: see ``Database``.
    """
    database = Database(database_url, generic_plans=generic_plans)
    keys = MasterKeys.load_or_create(settings.master_key)
    clients = ClusterClients(settings.cluster)
    engine_settings = settings.engine.model_copy(update={"children": engine_children})
    return Runtime(
        settings=settings,
        database=database,
        keys=keys,
        clients=clients,
        clusters=Clusters(database, keys, clients, settings.cluster),
        engine=EnginePool(
            engine_settings,
            state_dir=settings.data_dir / "engine",
            charts=settings.charts,
            most_waiting=engine_waiting,
            route=lambda kubeconfig, project: resolve_server(
                kubeconfig, settings.cluster, look_up=clients.resolver.of(project)
            ),
        ),
        space=FreeSpace(database, settings.data_dir),
    )


def freeze_gc() -> None:
    """Exempt what was loaded at the start from garbage collection: scanning it delays requests by 30 ms."""
    gc.collect()
    gc.freeze()

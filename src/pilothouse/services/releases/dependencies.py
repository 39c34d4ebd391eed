"""Dependencies of whatever changes releases: the services that accept changes, and the worker."""

from dataclasses import dataclass

from pilothouse.auth.sealing import MasterKeys
from pilothouse.engine.pool import EnginePool
from pilothouse.services.clusters import Clusters
from pilothouse.services.releases.preflight import Preflight
from pilothouse.settings import Settings
from pilothouse.store.database import Database


@dataclass(frozen=True)
class ReleaseDependencies:
    """What they share; the engine's children are those of the process."""

    database: Database
    keys: MasterKeys
    clusters: Clusters
    engine: EnginePool
    settings: Settings
    preflight: Preflight

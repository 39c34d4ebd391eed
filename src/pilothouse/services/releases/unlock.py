"""Unlocking of releases whose foreign writer died: on request only, with the reason on record.

A foreign ``pending-*`` or ``uninstalling`` revision is never changed automatically: its writer may be at work. A person
who knows that it is dead says so here. The revision becomes a failed one that its writer can no longer change, even if
it was only frozen.
"""

from dataclasses import dataclass

import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import InvalidRequest
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import StoredRelease, read_release, unlock
from pilothouse.services.clusters import ClusterConnection, Clusters, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.services.releases.external_managers import ReleaseManagers
from pilothouse.services.releases.index import ReleaseIndex
from pilothouse.services.releases.locks import changed_error, is_locked, running_error
from pilothouse.services.releases.names import is_name, is_namespace, unknown_release
from pilothouse.services.releases.preflight import Preflight
from pilothouse.settings import ReleaseSettings
from pilothouse.states import LIVING_STATES
from pilothouse.store import audit, operations
from pilothouse.store.database import Database

log = structlog.get_logger(__name__)

_UPDATE = "cce:release:update"
_LONGEST_REASON = 500


@dataclass(frozen=True)
class Unlocked:
    """A formerly locked revision in its current state; ``was`` is its previous status."""

    stored: StoredRelease
    was: str


class Unlocks:
    """Unlock releases in a project's clusters."""

    def __init__(
        self,
        database: Database,
        keys: MasterKeys,
        clusters: Clusters,
        settings: ReleaseSettings,
        *,
        preflight: Preflight,
    ) -> None:
        self._database = database
        self._clusters = clusters
        self._index = ReleaseIndex(keys)
        self._managers = ReleaseManagers(preflight, settings)

    async def unlock(
        self, caller: Caller, cluster_id: str, *, namespace: str, name: str, reason: str, request_id: str
    ) -> Unlocked:
        """Mark the newest revision as failed, permanently, so that the release can be changed again.

        Raises InvalidRequest (no reason, not locked), NotFound, Forbidden (an operation of ours is active, the revision
        was changed meanwhile, or its objects are in another namespace), ClusterUnavailable or ClusterDenied.
        """
        caller.require(_UPDATE)
        reason = " ".join(reason.split())
        if not 1 <= len(reason) <= _LONGEST_REASON:
            raise InvalidRequest(
                f"reason: explain in 1 to {_LONGEST_REASON} characters why the writer is known to be dead"
            )
        async with self._database.autocommit() as connection:
            cluster = await self._clusters.reach(cluster_id, project_id=caller.project_id, tx=connection)
            shown = await operations.find_shown(
                connection, cluster_id=cluster.id, namespace=namespace, release_name=name
            )
        if shown is not None and shown.state in LIVING_STATES:
            raise running_error(shown)
        client = self._clusters.client(cluster)
        with cluster_error_context(cluster):
            before, locked = await self._find_locked(cluster, namespace, name)
            async with self._database.autocommit() as connection:
                caller = await require_still(connection, caller, _UPDATE)
            if not await unlock(client, locked, reason=f"by {caller.user_name}: {reason}"):
                raise changed_error(name)
            secret = await client.find_release_secret(namespace=namespace, name=name, revision=before.revision)
        async with self._database.transaction() as tx:
            if secret is not None:
                await self._index.record(tx, cluster.id, secret)
            await audit.record(
                tx,
                caller,
                _UPDATE,
                target=f"{operations.release_key(cluster.id, namespace, name)}/unlock",
                target_name=name,
                detail="unlock",
                request_id=request_id,
            )
        log.warning("release_unlocked", cluster_id=cluster.id, release=name, was=before.status, reason=reason)
        return Unlocked(await read_release(secret) if secret is not None else before, before.status)

    async def _find_locked(self, cluster: ClusterConnection, namespace: str, name: str) -> tuple[StoredRelease, Secret]:
        """Return the newest revision if it is locked."""
        client, found = self._clusters.client(cluster), []
        if is_namespace(namespace) and is_name(name):
            found = await client.list_release_labels(namespace=namespace, name=name)
        newest = max(found, key=lambda one: one.revision, default=None)
        if newest is None:
            raise unknown_release(name, namespace, cluster_name=cluster.name)
        secret = await client.find_release_secret(namespace=namespace, name=name, revision=newest.revision)
        if secret is None:
            raise changed_error(name)
        stored = await read_release(secret)
        if not is_locked(stored):
            raise InvalidRequest(f"release {name!r} is not locked: its revision {stored.revision} is {stored.status}")
        await self._managers.refuse_other_namespace(client, stored, secret)
        return stored, secret

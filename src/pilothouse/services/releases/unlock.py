"""Unlocking of releases whose foreign writer died: on request only, with the reason on record.

A foreign ``pending-*`` or ``uninstalling`` revision is never changed automatically: its writer may be at work. A person
who knows that it is dead says so here. The revision becomes a failed one that its writer can no longer change, even if
it was only frozen.
"""

from dataclasses import dataclass

import structlog

from pilothouse.errors import InvalidArgument, InvalidRequest
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import StoredRelease, read_release, unlock
from pilothouse.metrics import UNLOCKS
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.elsewhere import refuse_unlock_elsewhere
from pilothouse.services.releases.external_managers import ReleaseManagers
from pilothouse.services.releases.index import ReleaseIndex
from pilothouse.services.releases.locks import Seen, changed_error, is_locked, running_error
from pilothouse.services.releases.names import is_name, is_namespace, without_revision
from pilothouse.services.releases.submit import Submissions
from pilothouse.states import LIVING_STATES
from pilothouse.store import operations

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

    def __init__(self, shared: ReleaseDependencies) -> None:
        self._database = shared.database
        self._clusters = shared.clusters
        self._index = ReleaseIndex(shared.keys)
        self._managers = ReleaseManagers(shared.preflight, shared.settings.releases)
        self._submissions = Submissions(shared.database, shared.keys, shared.settings)

    async def unlock(
        self,
        caller: Caller,
        cluster_id: str,
        *,
        namespace: str,
        name: str,
        reason: str,
        request_id: str,
        seen: Seen | None = None,
    ) -> Unlocked:
        """Mark the newest revision as failed, permanently, so that the release can be changed again.

        Raises InvalidRequest (no reason, not locked, not as it was ``seen``), NotFound, Forbidden (an operation of ours
        is active, the revision was changed meanwhile, or its objects are in another namespace), AtWorkElsewhere,
        ClusterUnavailable or ClusterDenied.
        """
        caller = caller.at(cluster_id, namespace)
        caller.require(_UPDATE)
        reason = " ".join(reason.split())
        if not 1 <= len(reason) <= _LONGEST_REASON:
            raise InvalidArgument(
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
            before, locked = await self._find_locked(cluster, namespace, name, shown)
            if seen is not None:
                seen.refuse_moved(before.revision, before.first_deployed)
            caller = await self._submissions.recheck(caller, _UPDATE)
            await self._refuse_at_work(caller, cluster.id, namespace, name)
            if not await unlock(client, locked, reason=f"by {caller.user_name}: {reason}"):
                raise changed_error(name)
            secret = await client.find_release_secret(namespace=namespace, name=name, revision=before.revision)
        async with self._submissions.change(caller, permission=_UPDATE, request_id=request_id, done=True) as change:
            if secret is not None:
                await self._index.record(change.tx, cluster.id, secret)
            await change.record(cluster.id, namespace, name, detail="unlock")
        UNLOCKS.inc()
        log.warning("release_unlocked", cluster_id=cluster.id, release=name, was=before.status, reason=reason)
        return Unlocked(await read_release(secret) if secret is not None else before, before.status)

    async def _refuse_at_work(self, caller: Caller, cluster_id: str, namespace: str, name: str) -> None:
        """Raise Forbidden or AtWorkElsewhere if an operation is unfinished, of this registration or of another.

        Asked after the revision was read: what locked it was accepted before that, and if it ends from now on, the
        revision is not the one that was read.
        """
        async with self._database.autocommit() as connection:
            await refuse_unlock_elsewhere(connection, caller, cluster_id, namespace=namespace, name=name)
            shown = await operations.find_shown(
                connection, cluster_id=cluster_id, namespace=namespace, release_name=name
            )
        if shown is not None and shown.state in LIVING_STATES:
            raise running_error(shown)

    async def _find_locked(
        self, cluster: ClusterConnection, namespace: str, name: str, shown: operations.OperationRow | None
    ) -> tuple[StoredRelease, Secret]:
        """Return the newest revision if it is locked; ``shown``: the operation that the release is known by."""
        client, found = self._clusters.client(cluster), []
        if is_namespace(namespace) and is_name(name):
            found = await client.list_release_labels(namespace=namespace, name=name)
        newest = max(found, key=lambda candidate: candidate.revision, default=None)
        if newest is None:
            raise without_revision(name, namespace, cluster_name=cluster.name, shown=shown)
        secret = await client.find_release_secret(namespace=namespace, name=name, revision=newest.revision)
        if secret is None:
            raise changed_error(name)
        stored = await read_release(secret)
        if not is_locked(stored):
            raise InvalidRequest(f"release {name!r} is not locked: its revision {stored.revision} is {stored.status}")
        await self._managers.refuse_other_namespace(client, stored, secret)
        return stored, secret

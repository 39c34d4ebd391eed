"""One attempt at an install: look, act, and read from storage what became of it.

What Helm's engine answers is a hint. The outcome is what the release's Secret says afterwards.
"""

from dataclasses import dataclass, field
from typing import Literal

import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.cluster.client import ClusterClient, Secret
from pilothouse.cluster.storage import OPERATION_LABEL, StoredRelease, decode_release, unlock
from pilothouse.engine.base import InstallRequest
from pilothouse.engine.deadline import Fence
from pilothouse.engine.pool import EnginePool
from pilothouse.errors import ClusterDenied, EngineCrashed, EngineTimeout, EngineUnavailable, HelmRefused, NotFound
from pilothouse.services.clusters import Clusters, ReachableCluster
from pilothouse.services.orders import InstallOrder, open_order
from pilothouse.settings import Settings
from pilothouse.store import archives, operations
from pilothouse.store.database import Database
from pilothouse.store.operations import OperationRow

log = structlog.get_logger(__name__)

_UNREACHABLE = "HelmKubeError"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: final, or ``retry`` (nothing was written yet), or ``crashed`` (the child died).

    ``secret`` is the release's newest Secret as it was read after the action.
    """

    state: Literal["succeeded", "failed", "retry", "crashed"]
    text: str
    wrote_release: bool = False
    revision: int | None = None
    secret: Secret | None = field(default=None, repr=False)
    gone: bool = False


class Installs:
    """Carries out installs for the runner."""

    def __init__(
        self, database: Database, keys: MasterKeys, clusters: Clusters, engine: EnginePool, settings: Settings
    ) -> None:
        self._database = database
        self._keys = keys
        self._clusters = clusters
        self._engine = engine
        self._settings = settings

    async def attempt(self, row: OperationRow, *, fence: Fence, seconds: float) -> Outcome:
        """Installs what the operation ordered, in at most ``seconds``; ClusterUnavailable if it cannot be looked at."""
        try:
            async with self._database.statements() as tx:
                cluster = await self._clusters.reach(row.cluster_id, project_id=None, tx=tx)
                archive = await archives.read_archive(tx, row.chart_digest)
        except NotFound:
            return Outcome("failed", "the cluster was removed from Pilothouse before the release was installed")
        order = open_order(row.request_sealed, keys=self._keys, operation_id=row.id)
        client = self._clusters.client(cluster)
        try:
            newest = await self._read_newest(client, row)
            if newest is not None and row.attempt > 1 and _is_ours(newest, row):
                outcome = await self._resume(client, row, newest)
                if outcome is not None:
                    return outcome
                return await self._install(
                    cluster, row, order, archive, newest, fence=fence, seconds=seconds, replace=True
                )
            return await self._install(
                cluster, row, order, archive, newest, fence=fence, seconds=seconds, replace=order.replace
            )
        except ClusterDenied as error:
            return Outcome("failed", str(error))

    async def _resume(self, client: ClusterClient, row: OperationRow, newest: StoredRelease) -> Outcome | None:
        """What an earlier attempt of this operation left: final is recorded, pending is unlocked and done again."""
        log.info("operation_resumed", operation_id=row.id, attempt=row.attempt, found=newest.status)
        if newest.status in {"deployed", "failed"}:
            return _recorded(newest)
        await self._unlock(client, row, newest.revision)
        return None

    async def _install(
        self,
        cluster: ReachableCluster,
        row: OperationRow,
        order: InstallOrder,
        archive: bytes | None,
        newest: StoredRelease | None,
        *,
        fence: Fence,
        seconds: float,
        replace: bool,
    ) -> Outcome:
        if archive is None:
            return Outcome("failed", f"chart {row.chart_name} {row.chart_version} is gone from the database")
        revision = newest.revision + 1 if newest is not None else 1
        async with self._database.statements() as tx:
            held = await operations.set_expected_revision(tx, row.id, attempt=row.attempt, revision=revision)
        if not held:
            return Outcome("failed", "this attempt no longer holds the operation")
        request = InstallRequest(
            kubeconfig=cluster.kubeconfig,
            namespace=row.namespace,
            release_name=row.release_name,
            chart=archive,
            values=order.values,
            disable_hooks=order.disable_hooks,
            replace=replace,
            wait=order.wait,
            timeout_seconds=seconds,
            labels={OPERATION_LABEL: row.id},
            create_namespace=self._settings.cluster.create_namespaces,
        )
        said, crashed, unreachable = "", False, False
        try:
            await self._engine.run(request, deadline_seconds=seconds, fence=fence)
        except HelmRefused as error:
            said, unreachable = str(error), error.kind == _UNREACHABLE
        except EngineUnavailable as error:
            return Outcome("retry", str(error))
        except EngineTimeout:
            said = f"timed out after {row.deadline_seconds} s; the engine was stopped"
        except EngineCrashed as error:
            said, crashed = f"{error} {error.stderr_tail}".strip()[:2000], True
        return await self._judge(
            self._clusters.client(cluster), row, revision, said, crashed=crashed, unreachable=unreachable
        )

    async def _judge(
        self, client: ClusterClient, row: OperationRow, revision: int, said: str, *, crashed: bool, unreachable: bool
    ) -> Outcome:
        """The outcome by the release's Secret; ``said`` is the engine's word, which counts where there is no Secret."""
        secret = await client.find_release_secret(namespace=row.namespace, name=row.release_name, revision=revision)
        stored = decode_release(secret) if secret is not None else None
        if stored is None or not _is_ours(stored, row):
            if crashed:
                return Outcome("crashed", said)
            if unreachable:
                return Outcome("retry", said)
            return Outcome("failed", said or f"Helm reported success, but stored no revision {revision}")
        if stored.status in {"deployed", "failed"}:
            return _recorded(stored, secret)
        if crashed:
            return Outcome("crashed", said, wrote_release=True, revision=revision)
        await self._unlock(client, row, revision)
        return Outcome("failed", said or "Helm's last write did not arrive", wrote_release=True, revision=revision)

    async def give_up(self, row: OperationRow, *, text: str) -> Outcome:
        """The end after too many crashes: the revision, if there is one of ours, is unlocked."""
        cluster = await self._clusters.reach(row.cluster_id, project_id=None)
        client = self._clusters.client(cluster)
        newest = await self._read_newest(client, row)
        if newest is None or not _is_ours(newest, row):
            return Outcome("failed", text)
        if newest.status not in {"deployed", "failed"}:
            await self._unlock(client, row, newest.revision)
        return Outcome("failed", text, wrote_release=True, revision=newest.revision)

    async def _unlock(self, client: ClusterClient, row: OperationRow, revision: int) -> None:
        secret = await client.find_release_secret(namespace=row.namespace, name=row.release_name, revision=revision)
        if secret is not None:
            await unlock(client, secret, reason=f"operation {row.id}, attempt {row.attempt}")

    async def _read_newest(self, client: ClusterClient, row: OperationRow) -> StoredRelease | None:
        labels = await client.list_release_labels(namespace=row.namespace, name=row.release_name)
        if not labels:
            return None
        revision = max(one.revision for one in labels)
        secret = await client.find_release_secret(namespace=row.namespace, name=row.release_name, revision=revision)
        return decode_release(secret) if secret is not None else None


def _is_ours(stored: StoredRelease, row: OperationRow) -> bool:
    return stored.labels.get(OPERATION_LABEL) == row.id


def _recorded(stored: StoredRelease, secret: Secret | None = None) -> Outcome:
    return Outcome(
        "succeeded" if stored.status == "deployed" else "failed",
        stored.description,
        wrote_release=True,
        revision=stored.revision,
        secret=secret,
    )

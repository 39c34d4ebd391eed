"""Delete Release: an uninstall, or the cancel of an unfinished install."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from pilothouse.errors import AlreadyExists
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import PENDING, StoredRelease
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.services.operations.ends import report_end
from pilothouse.services.operations.idempotency import Idempotency, Key, SubmittedOperation
from pilothouse.services.releases.commands import UninstallCommand, Wait, as_wait, open_shown
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.external_managers import ReleaseManagers
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.services.releases.locks import changed_error, locked_error, running_error
from pilothouse.services.releases.names import unknown_release
from pilothouse.services.releases.shown import UNINSTALL_UNDERWAY, from_operation
from pilothouse.services.releases.submit import OperationRequest, Submissions, base_of
from pilothouse.states import LIVING_STATES, Action, OperationState
from pilothouse.store import audit, operations
from pilothouse.store.database import Transaction
from pilothouse.store.operations import OperationRow, OriginRow

_DELETE = "cce:release:delete"
#: Each round can meet an operation that began or ended since the last one.
_ROUNDS = 5

#: What a failure that is dismissed is answered as: a release that is being deleted.
_DISMISSED = {"state": OperationState.CANCELLED, "keep_resources": False, "status_description": UNINSTALL_UNDERWAY}


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The state of a release: an active operation; else a failed install, the newest revision, or neither."""

    observed_at: float
    living: OperationRow | None = None
    failed_install: OperationRow | None = None
    origin: OriginRow | None = None
    stored: StoredRelease | None = None
    secret: Secret | None = None


class Deletions:
    """Delete releases in a project's clusters."""

    def __init__(self, shared: ReleaseDependencies) -> None:
        self._database = shared.database
        self._keys = shared.keys
        self._clusters = shared.clusters
        self._settings = shared.settings
        self._managers = ReleaseManagers(shared.preflight, shared.settings.releases)
        self._submissions = Submissions(shared.database, shared.keys, shared.settings)
        self._idempotency = Idempotency(shared.database, shared.keys, shared.settings)

    async def delete(
        self,
        caller: Caller,
        cluster_id: str,
        *,
        namespace: str,
        name: str,
        wait: Wait | None,
        timeout_seconds: int | None,
        request_id: str,
        key: Key | None = None,
    ) -> SubmittedOperation:
        """Accept an uninstall; the release is shown as being deleted until it is gone.

        A release that is being deleted already gives the same answer. A queued install is cancelled; a running one is
        cancelled and then uninstalled. A failed install without a revision is dismissed. Raises NotFound, Forbidden (an
        upgrade or rollback runs, or Helm's lock is held by another program), ClusterUnavailable or ClusterDenied.
        """
        caller.require(_DELETE)
        for round_ in range(_ROUNDS):
            cluster = await self._clusters.reach(cluster_id, project_id=caller.project_id)
            found = await self._look(cluster, namespace, name)
            if found.living is not None:
                ended = await self._end_install(caller, cluster, found.living, request_id=request_id, key=key)
                if ended is not None:
                    return ended
                continue
            if found.stored is None or found.secret is None:
                if found.failed_install is None:
                    raise unknown_release(name, namespace, cluster_name=cluster.name)
                return await self._dismiss(caller, cluster, found.failed_install, request_id=request_id, key=key)
            if found.stored.status in PENDING:
                if round_ == 0:
                    continue  # it may be of an operation that ended while both were looked at
                raise locked_error(found.stored, found.secret, cluster_id=cluster.id)
            with cluster_error_context(cluster):
                warning = await self._managers.check(self._clusters.client(cluster), found.stored, found.secret)
            request = self._request(found.stored, found.origin, wait=wait or as_wait(cluster.wait))
            request = replace(request, warning=warning, timeout_seconds=timeout_seconds)
            with suppress(AlreadyExists):
                return await self._submissions.submit(
                    caller,
                    cluster,
                    request,
                    permission=_DELETE,
                    observed_at=found.observed_at,
                    request_id=request_id,
                    key=key,
                )
        raise changed_error(name)

    async def _end_install(
        self, caller: Caller, cluster: ClusterConnection, shown: OperationRow, *, request_id: str, key: Key | None
    ) -> SubmittedOperation | None:
        """Return the answer while an operation is active; None if it has ended and the release is to be looked at."""
        cancelling, replaces = shown.state == OperationState.CANCELLING, shown.base_revision is not None
        if (shown.action, cancelling) == (Action.UNINSTALL, False) or (
            (shown.action, cancelling) == (Action.INSTALL, True)
            and not shown.keep_resources
            and (shown.cancel_deletes or not replaces)
        ):
            if key is not None:
                async with self._database.transaction() as tx:
                    await require_still(tx, caller, _DELETE)
                    if not await self._idempotency.hold(tx, key, shown):
                        return None
                    await self._idempotency.claim(tx, caller, key, shown, cluster_name=cluster.name)
            return self._answer(cluster, shown)
        if shown.action != Action.INSTALL or cancelling:
            raise running_error(shown)
        async with self._database.transaction() as tx:
            await require_still(tx, caller, _DELETE)
            await self._idempotency.hold(tx, key, shown)
            row = await operations.cancel(
                tx, shown.id, keep=False, deletes=True, underway=UNINSTALL_UNDERWAY, ended=UNINSTALL_UNDERWAY
            )
            if row is not None:
                await self._record(tx, caller, row, request_id=request_id)
            ended = row is None or (replaces and row.state == OperationState.CANCELLED)
            if row is not None and not ended:
                await self._idempotency.claim(tx, caller, key, row, cluster_name=cluster.name)
        if row is not None and row.finished_at is not None:
            report_end(row)
        if row is None or ended:
            return None
        # one that never began has ended with that, and its row has lost what is shown of it
        return self._answer(cluster, replace(row, request_sealed=shown.request_sealed, shown_sealed=shown.shown_sealed))

    async def _dismiss(
        self, caller: Caller, cluster: ClusterConnection, shown: OperationRow, *, request_id: str, key: Key | None
    ) -> SubmittedOperation:
        gone = OperationRow(**{**vars(shown), **_DISMISSED})
        async with self._database.transaction() as tx:
            await require_still(tx, caller, _DELETE)
            await self._idempotency.hold(tx, key, shown)
            if await operations.dismiss(tx, shown.id):
                await self._record(tx, caller, shown, request_id=request_id)
            await self._idempotency.claim(tx, caller, key, gone, cluster_name=cluster.name)
        return self._answer(cluster, gone)

    async def _record(self, tx: Transaction, caller: Caller, row: OperationRow, *, request_id: str) -> None:
        await audit.record(
            tx,
            caller,
            _DELETE,
            target=operations.release_key(row.cluster_id, row.namespace, row.release_name),
            target_name=row.release_name,
            request_id=request_id,
            operation_id=row.id,
        )

    async def _look(self, cluster: ClusterConnection, namespace: str, name: str) -> _Found:
        """Read operations and the cluster's storage concurrently; an active operation makes the cluster optional."""
        where = {"cluster_id": cluster.id, "namespace": namespace, "release_name": name}
        observed_at = time.monotonic()
        looking = asyncio.create_task(self._find_newest(cluster, namespace, name))
        try:
            async with self._database.autocommit() as connection:
                shown = await operations.find_shown(connection, **where)
                origin = await operations.find_origin(connection, **where)
            if shown is not None and shown.state in LIVING_STATES:
                return _Found(observed_at=observed_at, living=shown)
            failed_install = shown if shown is not None and shown.action == Action.INSTALL else None
            with cluster_error_context(cluster):
                stored, secret = await looking or (None, None)
            return _Found(
                observed_at=observed_at, origin=origin, failed_install=failed_install, stored=stored, secret=secret
            )
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _find_newest(
        self, cluster: ClusterConnection, namespace: str, name: str
    ) -> tuple[StoredRelease, Secret] | None:
        client = self._clusters.client(cluster)
        async with client.within_limit():
            found = await read_unsuperseded(client, namespace, name)
        return found[-1] if found else None

    def _request(self, stored: StoredRelease, origin: OriginRow | None, *, wait: Wait) -> OperationRequest:
        include_hooks = origin is not None and origin.revision <= stored.revision and origin.include_hooks
        order = UninstallCommand(
            merged_values=stored.values,
            first_deployed=stored.first_deployed,
            disable_hooks=not (include_hooks or self._settings.hooks.on_delete),
            hooks=stored.count_hooks("pre-delete", "post-delete"),
            wait=wait,
        )
        return OperationRequest(
            namespace=stored.namespace,
            release_name=stored.name,
            order=order,
            chart_id=origin.chart_id if origin is not None and origin.revision == stored.revision else "",
            chart_name=stored.chart_name,
            chart_version=stored.chart_version,
            include_hooks=include_hooks,
            revision=stored.revision,
            **base_of(stored),
            status_description=UNINSTALL_UNDERWAY,
        )

    def _answer(self, cluster: ClusterConnection, row: OperationRow) -> SubmittedOperation:
        return SubmittedOperation(from_operation(cluster, row, open_shown(row, keys=self._keys)), row.id)

"""Delete Release: an uninstall, or the cancel of an unfinished install."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace

from pilothouse.engine.protocol import Cascade, Wait
from pilothouse.errors import AlreadyExists, InvalidRequest
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import PENDING, StoredRelease
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.ends import report_end
from pilothouse.services.operations.idempotency import Key, SubmittedOperation
from pilothouse.services.releases.commands import UninstallCommand, as_wait, hidden_values, open_shown
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.details import ReleaseRef
from pilothouse.services.releases.elsewhere import lock_refusal
from pilothouse.services.releases.external_managers import ReleaseManagers
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.services.releases.locks import Seen, changed_error, running_error
from pilothouse.services.releases.names import unknown_release, without_revision
from pilothouse.services.releases.shown import UNINSTALL_UNDERWAY, from_operation
from pilothouse.services.releases.submit import OperationRequest, Proposal, ReleaseChange, Submissions, base_of
from pilothouse.states import LIVING_STATES, Action, OperationState, ReleaseStatus
from pilothouse.store import operations
from pilothouse.store.operations import OperationRow, OriginRow

_DELETE = "cce:release:delete"
#: Each round can meet an operation that began or ended since the last one.
_ROUNDS = 5

#: What a failure that is dismissed is answered as: a release that is being deleted.
_DISMISSED = {"state": OperationState.CANCELLED, "keep_resources": False, "status_description": UNINSTALL_UNDERWAY}


@dataclass(frozen=True, kw_only=True)
class DeleteRelease:
    """How a release is to be deleted, by Helm's names; ``no_hooks`` None: as the vendor's API decides it.

    ``seen``: only if it is still that, and no operation is under way.
    """

    wait: Wait | None = None
    timeout_seconds: int | None = None
    no_hooks: bool | None = None
    keep_history: bool = False
    cascade: Cascade = "background"
    description: str = ""
    seen: Seen | None = None


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

    async def delete(
        self,
        caller: Caller,
        cluster_id: str,
        *,
        namespace: str,
        name: str,
        request: DeleteRelease,
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
            found = await self._look(cluster, namespace, name, seen=request.seen)
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
                raise await lock_refusal(self._database, cluster.id, found.stored, found.secret)
            with cluster_error_context(cluster):
                warning = await self._managers.check(self._clusters.client(cluster), found.stored, found.secret)
            operation = self._request(found.stored, found.origin, request, wait=request.wait or as_wait(cluster.wait))
            operation = replace(operation, warning=warning, timeout_seconds=request.timeout_seconds)
            with suppress(AlreadyExists):
                return await self._submissions.submit(
                    caller,
                    cluster,
                    operation,
                    permission=_DELETE,
                    observed_at=found.observed_at,
                    request_id=request_id,
                    key=key,
                )
        raise changed_error(name)

    async def runs_hooks(self, cluster_id: str, *, namespace: str, name: str, revision: int) -> bool:
        """Return whether an uninstall of that revision runs its hooks if the request does not say."""
        async with self._database.autocommit() as connection:
            origin = await operations.find_origin(
                connection, cluster_id=cluster_id, namespace=namespace, release_name=name
            )
        return _includes_hooks(origin, revision) or self._settings.hooks.on_delete

    async def propose(self, place: ReleaseRef, request: DeleteRelease, *, project_id: str) -> Proposal:
        """Return the uninstall of a release on which no operation is active; raise what ``delete`` raises."""
        named = await self._clusters.identify(place.cluster, project_id=project_id)
        cluster = await self._clusters.reach(named.id, project_id=project_id)
        found = await self._look(cluster, place.namespace, place.name)
        if found.living is not None:
            raise running_error(found.living)
        if found.stored is None or found.secret is None:
            raise without_revision(place.name, place.namespace, cluster_name=cluster.name, shown=found.failed_install)
        if found.stored.status in PENDING:
            raise await lock_refusal(self._database, cluster.id, found.stored, found.secret)
        with cluster_error_context(cluster):
            warning = await self._managers.check(self._clusters.client(cluster), found.stored, found.secret)
        operation = self._request(found.stored, found.origin, request, wait=request.wait or as_wait(cluster.wait))
        operation = replace(operation, warning=warning, timeout_seconds=request.timeout_seconds)
        return Proposal(cluster, operation, found.observed_at)

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
                async with self._change(caller, shown, request_id=request_id, key=key) as change:
                    if not change.held:
                        return None
                    await change.claim(shown, cluster_name=cluster.name)
            return self._answer(cluster, shown)
        if shown.action != Action.INSTALL or cancelling:
            raise running_error(shown)
        async with self._change(caller, shown, request_id=request_id, key=key) as change:
            row = await operations.cancel(
                change.tx, shown.id, keep=False, deletes=True, underway=UNINSTALL_UNDERWAY, ended=UNINSTALL_UNDERWAY
            )
            if row is not None:
                await change.record(row.cluster_id, row.namespace, row.release_name, operation_id=row.id)
            ended = row is None or (replaces and row.state == OperationState.CANCELLED)
            if row is not None and not ended:
                await change.claim(row, cluster_name=cluster.name)
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
        async with self._change(caller, shown, request_id=request_id, key=key) as change:
            if await operations.dismiss(change.tx, shown.id):
                await change.record(shown.cluster_id, shown.namespace, shown.release_name, operation_id=shown.id)
            await change.claim(gone, cluster_name=cluster.name)
        return self._answer(cluster, gone)

    def _change(
        self, caller: Caller, shown: OperationRow, *, request_id: str, key: Key | None
    ) -> AbstractAsyncContextManager[ReleaseChange]:
        return self._submissions.change(caller, permission=_DELETE, request_id=request_id, key=key, shown=shown)

    async def _look(self, cluster: ClusterConnection, namespace: str, name: str, *, seen: Seen | None = None) -> _Found:
        """Read operations and the cluster's storage concurrently; an active operation makes the cluster optional.

        Raises Forbidden or InvalidRequest for what is not as it was ``seen``.
        """
        where = {"cluster_id": cluster.id, "namespace": namespace, "release_name": name}
        observed_at = time.monotonic()
        looking = asyncio.create_task(self._find_newest(cluster, namespace, name))
        try:
            async with self._database.autocommit() as connection:
                shown = await operations.find_shown(connection, **where)
                origin = await operations.find_origin(connection, **where)
            if shown is not None and shown.state in LIVING_STATES:
                if seen is not None:
                    raise running_error(shown)
                return _Found(observed_at=observed_at, living=shown)
            failed_install = shown if shown is not None and shown.action == Action.INSTALL else None
            with cluster_error_context(cluster):
                stored, secret = await looking or (None, None)
            if seen is not None and stored is not None:
                seen.refuse_moved(stored.revision, stored.first_deployed)
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

    def _request(
        self, stored: StoredRelease, origin: OriginRow | None, request: DeleteRelease, *, wait: Wait
    ) -> OperationRequest:
        include_hooks = _includes_hooks(origin, stored.revision)
        if request.keep_history and stored.status == ReleaseStatus.UNINSTALLED:
            raise InvalidRequest(f"release {stored.name!r} is uninstalled already; only its history is left")
        if request.keep_history and stored.unlocked:
            raise InvalidRequest(
                f"keep_history: revision {stored.revision} was unlocked and is immutable, so that Helm cannot mark it "
                "as uninstalled; roll back or upgrade first, or delete without keep_history"
            )
        no_hooks = request.no_hooks
        if no_hooks is None:
            no_hooks = not (include_hooks or self._settings.hooks.on_delete)
        order = UninstallCommand(
            merged_values=stored.values,
            first_deployed=stored.first_deployed,
            disable_hooks=no_hooks,
            hooks=stored.count_hooks("pre-delete", "post-delete"),
            wait=wait,
            keep_history=request.keep_history,
            cascade=request.cascade,
            description=request.description,
            hidden_values=hidden_values(stored.config),
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


def _includes_hooks(origin: OriginRow | None, revision: int) -> bool:
    """Return whether the revision was made with hooks, as the vendor's API has it."""
    return origin is not None and origin.revision <= revision and origin.include_hooks

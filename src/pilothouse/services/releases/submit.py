"""The one way of every write to a release: rights asked again, effect, audit row and key in one transaction.

``submit`` turns a validated request into a queued operation in one statement; once committed, it runs even if every
process dies. ``change`` is for writes that queue nothing.
"""

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypedDict

import structlog

from pilothouse import tracing
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import DatabaseUnavailable, InvalidArgument
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kubeconfig import api_server
from pilothouse.metrics import OPERATIONS_ACCEPTED
from pilothouse.services.cluster_walls import refuse_outside
from pilothouse.services.clusters import ClusterConnection
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.services.operations.idempotency import Idempotency, Key, SubmittedOperation
from pilothouse.services.releases.commands import Order, action_of, seal_command, shown_of, told_in_audit
from pilothouse.services.releases.shown import from_operation
from pilothouse.settings import Settings
from pilothouse.states import ReleaseStatus
from pilothouse.store import audit, operation_events, operations
from pilothouse.store import submit as queue
from pilothouse.store.database import Database, Transaction
from pilothouse.store.operations import OperationRow

log = structlog.get_logger(__name__)

#: Fields of a request that the row has in another form, or not at all.
_NOT_COLUMNS = frozenset({"order", "timeout_seconds", "warning", "chart_revision"})


@dataclass(frozen=True, kw_only=True)
class OperationRequest:
    """An order with the plaintext columns of the operation row.

    ``revision`` is the number that will be written, if known by now; ``base_revision`` the newest existing one. If that
    one is deployed, its Secret's uid and resourceVersion save a worker that begins at once from reading it again.
    ``chart_digest`` pins the archive that the worker needs; the other chart fields are for display. ``warning`` becomes
    the operation's first event. ``plan_id``: the plan that it applies, which no other operation has applied.
    ``chart_revision``: the revision whose stored chart it is; there is no ``chart_id`` then.
    """

    namespace: str
    release_name: str
    order: Order
    chart_digest: str | None = None
    chart_id: str = ""
    chart_name: str
    chart_version: str
    include_hooks: bool = False
    revision: int | None = None
    base_revision: int | None = None
    base_uid: str = ""
    base_version: str = ""
    description: str = ""
    status_description: str
    timeout_seconds: int | None = None
    warning: str | None = None
    plan_id: str | None = None
    chart_revision: int | None = None


@dataclass(frozen=True)
class ReleaseChange:
    """The transaction of a write that queues nothing.

    ``caller`` is as the rights were last asked. ``held``: what the answer shows is kept as long as the key; False if
    the operation has ended and lost it since it was read.
    """

    tx: Transaction
    caller: Caller
    held: bool
    _idempotency: Idempotency
    _permission: str
    _request_id: str
    _key: Key | None

    async def claim(self, row: OperationRow, *, cluster_name: str) -> None:
        """Claim the key for an answer that shows the row."""
        await self._idempotency.claim(self.tx, self.caller, self._key, row, cluster_name=cluster_name)

    async def record(
        self, cluster_id: str, namespace: str, name: str, *, operation_id: str = "", detail: str = ""
    ) -> None:
        """Insert the audit row; ``detail`` names a write that is not of the release as a whole."""
        key = operations.release_key(cluster_id, namespace, name)
        await audit.record(
            self.tx,
            self.caller,
            self._permission,
            target=f"{key}/{detail}" if detail else key,
            target_name=name,
            detail=detail,
            request_id=self._request_id,
            operation_id=operation_id,
        )


@dataclass(frozen=True)
class Proposal:
    """An operation that would be accepted, with what was seen of the cluster; ``observed_at`` as for ``submit``."""

    cluster: ClusterConnection
    operation: OperationRequest
    observed_at: float


class Submissions:
    """Accept writes."""

    def __init__(self, database: Database, keys: MasterKeys, settings: Settings) -> None:
        self._database = database
        self._keys = keys
        self._settings = settings
        self._idempotency = Idempotency(database, keys, settings)
        self._limits = queue.QueueLimits(
            per_cluster=settings.queue.waiting_per_cluster,
            per_project=settings.queue.waiting_per_project,
            retry_seconds=settings.queue.retry_seconds,
            bytes_per_project=settings.queue.waiting_bytes_per_project,
        )

    async def submit(
        self,
        caller: Caller,
        cluster: ClusterConnection,
        request: OperationRequest,
        *,
        permission: str,
        observed_at: float | None,
        request_id: str,
        key: Key | None,
    ) -> SubmittedOperation:
        """Insert the operation, its audit row and the idempotency key, and notify a worker.

        ``observed_at``: the monotonic time at which the caller began to read the cluster; a release that another
        operation made since is AlreadyExists, as is one with an active operation. None: changes since do not matter.
        Busy if too many operations wait for the cluster or the project; KeyUsed if the key was already used.
        """
        caller.require(permission)
        refuse_outside(cluster, request.namespace)
        longest = self._settings.worker.longest_timeout_seconds
        if (request.timeout_seconds or 0) > longest:
            raise InvalidArgument(
                f"timeout_seconds: {request.timeout_seconds} is more than {longest}, the most that this server takes "
                "(PILOTHOUSE_WORKER__LONGEST_TIMEOUT_SECONDS)"
            )
        with tracing.span(f"accept {action_of(request.order)}", "producer") as span:
            new = await self._new_operation(caller, cluster, request, request_id=request_id)
            span.note({"pilothouse.operation_id": new.id, "pilothouse.cluster_id": cluster.id})
            async with self._database.autocommit() as connection:
                caller = await require_still(connection, caller, permission)
                row = await queue.enqueue(
                    connection,
                    new,
                    audit_action=permission,
                    audit_detail=told_in_audit(request.order),
                    by=caller,
                    observed_seconds_ago=0.0 if observed_at is None else time.monotonic() - observed_at,
                    limits=self._limits,
                    key=self._idempotency.of_new(key, new, cluster_name=cluster.name) if key else None,
                )
        OPERATIONS_ACCEPTED.labels(new.action).inc()
        log.info("operation_accepted", operation_id=new.id, action=new.action, cluster_id=cluster.id)
        if request.warning is not None:
            # the operation stands: that people are not warned must not look as if it did not
            with suppress(DatabaseUnavailable):
                async with self._database.autocommit() as connection:
                    await operation_events.add_event(
                        connection, new.id, attempt=0, kind="other_manager_found", text=request.warning
                    )
        return SubmittedOperation(from_operation(cluster, row, shown_of(request.order)), new.id)

    async def recheck(self, caller: Caller, permission: str) -> Caller:
        """Return the caller as it is now, right before a write to a cluster; raise as ``require_still`` does."""
        caller.require(permission)
        async with self._database.autocommit() as connection:
            return await require_still(connection, caller, permission)

    @asynccontextmanager
    async def change(
        self,
        caller: Caller,
        *,
        permission: str,
        request_id: str,
        key: Key | None = None,
        shown: OperationRow | None = None,
        done: bool = False,
    ) -> AsyncIterator[ReleaseChange]:
        """Open the transaction of a write that queues nothing; its answer shows the operation ``shown``.

        Rights are asked again, but not for what is ``done`` already in the cluster: that is recorded in any case.
        """
        caller.require(permission)
        async with self._database.transaction() as tx:
            if not done:
                caller = await require_still(tx, caller, permission)
            held = shown is None or await self._idempotency.hold(tx, key, shown)
            yield ReleaseChange(tx, caller, held, self._idempotency, permission, request_id, key)

    async def _new_operation(
        self, caller: Caller, cluster: ClusterConnection, request: OperationRequest, *, request_id: str
    ) -> operations.NewOperation:
        operation_id = str(uuid.uuid4())
        sealed = await seal_command(request.order, keys=self._keys, operation_id=operation_id)
        return operations.NewOperation(
            **{name: value for name, value in vars(request).items() if name not in _NOT_COLUMNS},
            id=operation_id,
            project_id=caller.project_id,
            user_id=caller.user_id,
            cluster_id=cluster.id,
            api_server=api_server(cluster.server),
            action=action_of(request.order),
            request_sealed=sealed.request,
            shown_sealed=sealed.shown,
            deadline_seconds=request.timeout_seconds or int(self._settings.worker.timeout_seconds),
            request_id=request_id,
            trace_parent=tracing.traceparent(),
        )


class _Base(TypedDict):
    base_revision: int
    base_uid: str
    base_version: str


def base_of(newest: StoredRelease) -> _Base:
    """Return the fields of a request that describe its base, the newest revision."""
    if newest.status != ReleaseStatus.DEPLOYED:
        return {"base_revision": newest.revision, "base_uid": "", "base_version": ""}
    return {
        "base_revision": newest.revision,
        "base_uid": newest.uid,
        "base_version": newest.resource_version,
    }

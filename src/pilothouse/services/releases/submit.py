"""Turns a validated request into a queued operation in one statement.

Once committed, it runs even if every process dies.
"""

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TypedDict

import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import DatabaseUnavailable
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kubeconfig import api_server
from pilothouse.services.clusters import ClusterConnection
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.services.operations.idempotency import Idempotency, Key, SubmittedOperation
from pilothouse.services.releases.commands import Order, action_of, destructive_options, seal_command, shown_of
from pilothouse.services.releases.shown import from_operation
from pilothouse.settings import Settings
from pilothouse.states import ReleaseStatus
from pilothouse.store import operation_events, operations
from pilothouse.store import submit as queue
from pilothouse.store.database import Database

log = structlog.get_logger(__name__)

#: Fields of a request that the row has in another form, or not at all.
_NOT_COLUMNS = frozenset({"order", "timeout_seconds", "warning"})


@dataclass(frozen=True, kw_only=True)
class OperationRequest:
    """An order with the plaintext columns of the operation row.

    ``revision`` is the number that will be written, if known by now; ``base_revision`` the newest existing one. If that
    one is deployed, its Secret's uid and resourceVersion save a worker that begins at once from reading it again.
    ``chart_digest`` pins the archive that the worker needs; the other chart fields are for display. ``warning`` becomes
    the operation's first event.
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


class Submissions:
    """Accept orders."""

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
        new = await self._new_operation(caller, cluster, request, request_id=request_id)
        async with self._database.autocommit() as connection:
            caller = await require_still(connection, caller, permission)
            row = await queue.enqueue(
                connection,
                new,
                audit_action=permission,
                audit_detail=destructive_options(request.order),
                by=caller,
                observed_seconds_ago=0.0 if observed_at is None else time.monotonic() - observed_at,
                limits=self._limits,
                key=self._idempotency.of_new(key, new, cluster_name=cluster.name) if key else None,
            )
        log.info("operation_accepted", operation_id=new.id, action=new.action, cluster_id=cluster.id)
        if request.warning is not None:
            # the operation stands: that people are not warned must not look as if it did not
            with suppress(DatabaseUnavailable):
                async with self._database.autocommit() as connection:
                    await operation_events.add_event(
                        connection, new.id, attempt=0, kind="other_manager_found", said=request.warning
                    )
        return SubmittedOperation(from_operation(cluster, row, shown_of(request.order)), new.id)

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

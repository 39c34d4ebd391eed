"""Cancellation: an operation that was not begun never begins; one that was begun is stopped and undone.

For each action: an install is uninstalled, or kept as a failed release; an upgrade or rollback goes back to the
revision that was deployed before, and so does an uninstall as long as every object of the release exists. What tests
have started is removed.
"""

from datetime import UTC

import structlog

from pilothouse.errors import AlreadyEnded, InvalidRequest, NotFound
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import current_caller
from pilothouse.services.operations.ends import report_end
from pilothouse.services.releases.shown import UNINSTALL_UNDERWAY
from pilothouse.states import Action, OperationState
from pilothouse.store import audit, operation_events, operations
from pilothouse.store.database import Database, Transaction
from pilothouse.store.operations import OperationRow

log = structlog.get_logger(__name__)

#: Who may order it may cancel it.
_PERMISSIONS: dict[str, str] = {
    Action.INSTALL: "cce:release:create",
    Action.UPGRADE: "cce:release:update",
    Action.ROLLBACK: "cce:release:update",
    Action.UNINSTALL: "cce:release:delete",
    Action.TEST: "cce:release:update",
}
_UNDERWAY: dict[str, str] = {
    Action.INSTALL: UNINSTALL_UNDERWAY,
    Action.UPGRADE: "Cancelling; the release goes back to the revision that was deployed before",
    Action.ROLLBACK: "Cancelling; the release goes back to the revision that was deployed before",
    Action.UNINSTALL: "Cancelling; the release is restored if nothing of it was deleted yet, otherwise it is removed",
    Action.TEST: "Cancelling; what the tests have started is removed",
}
_KEEPING = "Cancelling; what is installed is kept as a failed release"
_NEVER_BEGUN = "cancelled before anything was done"


class Cancellations:
    """Cancel the operations of a project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def check(self, caller: Caller, operation_id: str) -> None:
        """Return if the caller may cancel the operation, in whatever state; else raise NotFound or Forbidden."""
        caller.require_somewhere("cce:operation:get")
        async with self._database.autocommit() as connection:
            await _find(connection, caller, operation_id)

    async def cancel(self, caller: Caller, operation_id: str, *, keep: bool, request_id: str) -> OperationRow:
        """Cancel the operation. Idempotent: repeating the call while it is being cancelled returns the same result.

        ``keep``: what an install has created so far stays, as a failed release. Raises NotFound; Forbidden without the
        permission of the operation being cancelled; AlreadyEnded; InvalidRequest for ``keep`` of anything but an
        install.
        """
        caller.require_somewhere("cce:operation:get")
        async with self._database.transaction() as tx:
            caller = await current_caller(tx, caller)
            row = await _find(tx, caller, operation_id)
            if keep and row.action != Action.INSTALL:
                raise InvalidRequest(
                    f"keep: only an install can be kept; operation {operation_id} is of the kind {row.action}"
                )
            cancelled = await operations.cancel(
                tx,
                operation_id,
                keep=keep,
                underway=_KEEPING if keep else _UNDERWAY.get(row.action, "Cancelling"),
                ended=_NEVER_BEGUN,
            )
            if cancelled is None:
                return await self._explain(tx, operation_id, keep=keep)
            await self._record(tx, caller, cancelled, request_id=request_id)
        log.info("operation_cancelled", operation_id=operation_id, state=cancelled.state)
        if cancelled.finished_at is not None:
            report_end(cancelled)
        return cancelled

    async def _explain(self, tx: Transaction, operation_id: str, *, keep: bool) -> OperationRow:
        """Return the operation if it is being cancelled already; raise AlreadyEnded otherwise."""
        row = await operations.find_operation(tx, operation_id)
        if row is None:
            raise NotFound(f"operation {operation_id!r} does not exist in this project")
        if row.state != OperationState.CANCELLING:
            at = f" at {row.finished_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if row.finished_at else ""
            told = row.status_description
            how = "" if told.startswith(row.state) else f", {row.state}"
            raise AlreadyEnded(f"operation {operation_id} has ended{at}{how}: {told}")
        if row.keep_resources != keep:
            way = "with keep" if row.keep_resources else "without keep"
            raise AlreadyEnded(f"operation {operation_id} is already being cancelled, {way}; that cannot be changed")
        return row

    async def _record(self, tx: Transaction, caller: Caller, row: OperationRow, *, request_id: str) -> None:
        await operation_events.add_event(
            tx, row.id, attempt=row.attempt, kind="cancel_requested", text=f"cancel requested by {caller.user_name}"
        )
        await audit.record(
            tx,
            caller,
            "cce:operation:cancel",
            target=operations.release_key(row.cluster_id, row.namespace, row.release_name),
            target_name=row.release_name,
            request_id=request_id,
            operation_id=row.id,
        )


async def _find(tx: Transaction, caller: Caller, operation_id: str) -> OperationRow:
    """Return the operation, which the caller may cancel; raise NotFound or Forbidden."""
    row = await operations.find_operation(tx, operation_id)
    if row is None or row.project_id != caller.project_id:
        raise NotFound(f"operation {operation_id!r} does not exist in this project")
    caller = caller.at(row.cluster_id, row.namespace)
    permission = _PERMISSIONS.get(row.action, f"cce:release:{row.action}")
    caller.require_of(permission, cluster_id=row.cluster_id, namespace=row.namespace, name=row.release_name)
    return row

"""The end of an operation, once it is there, for clients that prefer to wait (``Prefer: wait``)."""

from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.operations.notifications import Notifications
from pilothouse.services.operations.read import Operations
from pilothouse.shares import Counted
from pilothouse.states import LIVING_STATES
from pilothouse.store.operations import OperationRow

_GET = "cce:operation:get"


class OperationWaits:
    """Show operations once they have ended."""

    def __init__(
        self, operations: Operations, notifications: Notifications, standing: Standing, *, waiting: Counted
    ) -> None:
        """Count the waiting requests of each user in ``waiting``."""
        self._operations = operations
        self._notifications = notifications
        self._standing = standing
        self._waiting = waiting

    async def show(self, caller: Caller, operation_id: str, *, seconds: float) -> OperationRow:
        """Return the operation once it has ended, or as it is after ``seconds``.

        The caller's rights are checked again every few seconds. Raises what ``Operations.show`` raises,
        NotAuthenticated, and Busy if too many wait already.
        """
        caller.require_somewhere(_GET)
        row = await self._operations.show(caller, operation_id)
        if not seconds or row.state not in LIVING_STATES:
            return row

        async def look() -> OperationRow:
            nonlocal caller
            caller = await self._standing.ask(caller, after_seconds=self._standing.again_seconds)
            return await self._operations.show(caller, operation_id)

        with self._waiting.held(caller.user_id):
            return await self._notifications.wait_until_settled(
                look,
                is_settled=lambda found: found.state not in LIVING_STATES,
                cluster_id=row.cluster_id,
                namespace=row.namespace,
                name=row.release_name,
                seconds=seconds,
            )

"""Waiting until a release is settled, as an alternative to polling (``Prefer: wait``)."""

from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.operations.notifications import Notifications
from pilothouse.services.releases.pages import Release
from pilothouse.services.releases.read import ReleaseView
from pilothouse.shares import Counted
from pilothouse.states import UNSETTLED

_GET = "cce:release:get"


class ReleaseWaits:
    """Show releases once they are settled."""

    def __init__(
        self, view: ReleaseView, notifications: Notifications, standing: Standing, *, waiting: Counted
    ) -> None:
        """Count the waiting requests of each user in ``waiting``."""
        self._view = view
        self._notifications = notifications
        self._standing = standing
        self._waiting = waiting

    async def show(self, caller: Caller, cluster_id: str, *, namespace: str, name: str, seconds: float) -> Release:
        """Return the release once it is settled, or in its current state after ``seconds``.

        The caller's rights are checked again every few seconds. Raises what ``ReleaseView.show`` raises,
        NotAuthenticated, and Busy if too many wait already.
        """
        caller.require(_GET)
        release = await self._view.show(caller, cluster_id, namespace=namespace, name=name)
        if not seconds or release.status not in UNSETTLED:
            return release

        async def look() -> Release:
            nonlocal caller
            caller = await self._standing.require(caller, _GET, after_seconds=self._standing.again_seconds)
            return await self._view.show(caller, cluster_id, namespace=namespace, name=name)

        with self._waiting.held(caller.user_id):
            return await self._notifications.wait_until_settled(
                look,
                is_settled=lambda found: found.status not in UNSETTLED,
                cluster_id=cluster_id,
                namespace=namespace,
                name=name,
                seconds=seconds,
            )

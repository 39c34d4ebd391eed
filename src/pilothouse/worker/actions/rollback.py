"""Rollbacks: the next revision as a copy of an earlier one, its labels included."""

from pilothouse.engine.protocol import MAX_HISTORY, RollbackRequest
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import RollbackCommand
from pilothouse.states import Action
from pilothouse.worker.actions.revision_action import RevisionAction


class Rollback(RevisionAction[RollbackCommand]):
    """One attempt at a rollback."""

    action = Action.ROLLBACK
    hook_events = ("pre-rollback", "post-rollback")

    def request(self, newest: ReleaseLabels | None, chart: bytes) -> RollbackRequest:
        """Return a rollback to the revision in the request, or to the previous one at that time."""
        del chart
        return RollbackRequest(
            **self._target(),
            to_revision=self._order.to_revision,
            prune=newest is not None and newest.revision >= MAX_HISTORY,
            remove_namespace=self._order.remove_namespace,
        )

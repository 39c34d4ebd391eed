"""Rollbacks: the next revision as a copy of an earlier one, its labels included."""

from pilothouse.engine.protocol import RollbackRequest
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import RollbackCommand
from pilothouse.states import Action
from pilothouse.worker.actions.revision_action import RevisionAction, to_prune


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
            # no label tells whose it is, so it may not be another one than was committed
            revision=newest.revision + 1 if newest is not None else 0,
            max_history=to_prune(self._order.options, newest),
            remove_namespace=self._order.remove_namespace,
            force_conflicts=self._order.options.force_conflicts,
            force_replace=self._order.options.force_replace,
            disable_hooks=self._order.disable_hooks,
            planned=self._planned(newest),
        )

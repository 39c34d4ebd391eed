"""Upgrades: the next revision from a chart."""

from pilothouse.engine.protocol import MAX_HISTORY, UpgradeRequest
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import UpgradeCommand
from pilothouse.states import Action
from pilothouse.worker.actions.revision_action import RevisionAction


class Upgrade(RevisionAction[UpgradeCommand]):
    """One attempt at an upgrade."""

    action = Action.UPGRADE
    hook_events = ("pre-upgrade", "post-upgrade")

    def request(self, newest: ReleaseLabels | None, chart: bytes) -> UpgradeRequest:
        """Return an upgrade of whatever revision is newest now."""
        return UpgradeRequest(
            **self._target(),
            chart=chart,
            values=self._order.values,
            reset_values=self._order.reset_values,
            reuse_values=self._order.reuse_values,
            labels={OPERATION_LABEL: self._row.id},
            prune=newest is not None and newest.revision >= MAX_HISTORY,
            crds=self._order.crds,
            skip_schema_validation=self._order.skip_schema_validation,
            remove_namespace=self._order.remove_namespace,
        )

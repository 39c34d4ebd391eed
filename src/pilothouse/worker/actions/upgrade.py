"""Upgrades: the next revision from a chart."""

from pilothouse.engine.protocol import UpgradeRequest
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import UpgradeCommand
from pilothouse.services.releases.engine_options import upgrade_options
from pilothouse.states import Action
from pilothouse.worker.actions.revision_action import RevisionAction, to_prune


class Upgrade(RevisionAction[UpgradeCommand]):
    """One attempt at an upgrade."""

    action = Action.UPGRADE
    hook_events = ("pre-upgrade", "post-upgrade")

    def request(self, newest: ReleaseLabels | None, chart: bytes) -> UpgradeRequest:
        """Return an upgrade of whatever revision is newest now."""
        options = self._order.options
        return UpgradeRequest(
            **self._target(),
            **upgrade_options(self._order),
            chart=chart,
            description=options.description,
            labels={**options.labels, OPERATION_LABEL: self._row.id},
            max_history=to_prune(options, newest),
            only_revision=newest.revision + 1 if newest is not None and self._order.only_over is not None else 0,
            planned=self._planned(newest),
        )

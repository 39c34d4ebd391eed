"""Installs: a first revision, or with ``replace`` one over a failed or uninstalled release."""

from pilothouse.engine.protocol import InstallRequest
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL, StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import InstallCommand
from pilothouse.services.releases.engine_options import chart_options
from pilothouse.states import Action
from pilothouse.worker.actions.post_actions import prune_history, remove_orphans, supersede_older
from pilothouse.worker.actions.revision_action import RevisionAction
from pilothouse.worker.outcome import Event
from pilothouse.worker.state import ReleaseSnapshot


class Install(RevisionAction[InstallCommand]):
    """One attempt at an install."""

    action = Action.INSTALL
    hook_events = ("pre-install", "post-install")

    async def observe(self) -> ReleaseSnapshot:
        """Return an empty snapshot in the first attempt if acceptance found the name free: Helm refuses a taken one."""
        if self._row.attempt == 1 and self._row.base_revision is None and not self._order.replace:
            return ReleaseSnapshot(())
        return await self._attempt.observe()

    def request(self, newest: ReleaseLabels | None, chart: bytes) -> InstallRequest:
        """Return an install; what this operation itself left behind is replaced automatically."""
        own = newest is not None and newest.labels.get(OPERATION_LABEL) == self._row.id
        options = self._order.options
        return InstallRequest(
            **self._target(),
            **chart_options(self._order),
            chart=chart,
            replace=self._order.replace or own,
            description=options.description,
            labels={**options.labels, OPERATION_LABEL: self._row.id},
            create_namespace=options.create_namespace or self._attempt.settings.cluster.create_namespaces,
            planned=self._planned(newest),
        )

    async def follow_up(self, stored: StoredRelease, snapshot: ReleaseSnapshot) -> tuple[Event, ...]:
        """Delete objects that only the replaced revisions had, and prune history to Helm's limit."""
        if not snapshot.revisions:
            return ()
        await supersede_older(self._attempt, stored, snapshot)
        return (
            *await remove_orphans(self._attempt, stored, snapshot),
            *await prune_history(self._attempt, stored, snapshot, keep=self._order.options.history_max),
        )

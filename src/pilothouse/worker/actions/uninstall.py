"""Uninstalls.

A release that is gone is a success, whoever removed it. What was made under its name since is left alone. Ours is an
``uninstalling`` revision with the number and the uid that were committed before the child started.
"""

from dataclasses import replace

from pilothouse.engine.protocol import UninstallRequest
from pilothouse.kubernetes.client import ReleaseLabels, Secret
from pilothouse.kubernetes.helm_secrets import PENDING, UNINSTALLING
from pilothouse.services.releases.commands import UninstallOrder
from pilothouse.services.releases.locks import describe_lock
from pilothouse.states import OperationState
from pilothouse.worker.actions.hooks import end_interrupted
from pilothouse.worker.actions.manifests import Kinds
from pilothouse.worker.actions.post_actions import list_orphans, remove_objects
from pilothouse.worker.attempt import Attempt, Said, stored_in
from pilothouse.worker.outcome import Event, Outcome

#: Helm's words.
GONE = "Uninstallation complete"


class Uninstall:
    """One attempt at removing a release."""

    def __init__(self, attempt: Attempt, order: UninstallOrder) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._order = order

    async def run(self) -> Outcome:
        """Removes the release, or finds that it is gone."""
        seen = await self._attempt.look_at_base()
        if seen.newest is None:
            return Outcome(OperationState.SUCCEEDED, GONE, gone=True)
        if self._attempt.begun:
            if not seen.has_base_of(self._row):
                return Outcome(OperationState.SUCCEEDED, f"{GONE}; a release of the same name was made since")
            if seen.newest.status == UNINSTALLING and seen.newest.revision == self._row.base_revision:
                await unlock_newest(self._attempt, seen.newest)
                again = "" if self._order.disable_hooks else "; hooks that ran before run again"
                await self._attempt.record("action_resumed", f"attempt {self._row.attempt} uninstalls again{again}")
                seen = await self._attempt.look()
        if seen.newest is None:
            return Outcome(OperationState.SUCCEEDED, GONE, gone=True)
        if seen.newest.status in PENDING:
            return await failed_by_lock(self._attempt, seen.newest)
        orphans = await list_orphans(self._attempt, seen)
        await self._attempt.begin(seen, revision=seen.newest.revision)
        if orphans:
            await self._attempt.remember_objects(orphans)
        outcome = await remove(
            self._attempt, seen.newest, disable_hooks=self._order.disable_hooks, wait=self._order.wait
        )
        if outcome.state != OperationState.SUCCEEDED:
            return outcome
        events = (
            await remove_objects(self._attempt, orphans, Kinds(self._attempt.client), newest=None) if orphans else ()
        )
        if self._order.disable_hooks and self._order.hooks:
            events = (*events, Event("hooks_not_run", f"{self._order.hooks} hooks not run"))
        return replace(outcome, events=events)

    async def end(self, text: str) -> Outcome:
        """The failure that nothing more is tried after."""
        seen = await self._attempt.look()
        newest = seen.newest
        if newest is None:
            return Outcome(OperationState.SUCCEEDED, GONE, gone=True)
        ours = self._attempt.begun and seen.has_base_of(self._row) and newest.revision == self._row.base_revision
        if ours and newest.status == UNINSTALLING:
            secret = await unlock_newest(self._attempt, newest, why=text)
            return Outcome(OperationState.FAILED, text, secret=secret)
        return Outcome(OperationState.FAILED, text)


async def remove(attempt: Attempt, newest: ReleaseLabels, *, disable_hooks: bool, wait: str) -> Outcome:
    """Uninstalls the release whose newest revision this is; the outcome by what is left of that revision."""
    row = attempt.row
    request = UninstallRequest(
        kubeconfig=attempt.cluster.kubeconfig,
        namespace=row.namespace,
        release_name=row.release_name,
        disable_hooks=disable_hooks,
        wait="ready" if wait == "ready" else "hooks",
        timeout_seconds=attempt.seconds,
    )
    return await _judge(attempt, newest, await attempt.run(request))


async def _judge(attempt: Attempt, newest: ReleaseLabels, said: Said) -> Outcome:
    if said.how == "unavailable":
        return Outcome("retry", said.text)
    # Helm removes the newest revision last; what went wrong before that did not keep the release
    text = f"{GONE}; {said.text}" if said.text else GONE
    absent_at = await attempt.find_absence()
    if absent_at is not None:
        return Outcome(OperationState.SUCCEEDED, text, gone=True, absent_at=absent_at)
    secret = await attempt.read(newest.revision)
    stored = stored_in(secret)
    if stored is None or stored.uid != newest.uid:
        return Outcome(OperationState.SUCCEEDED, text)
    if said.how == "done":
        return Outcome("crashed", f"Helm reported success, but revision {newest.revision} is still there")
    if said.how in {"crashed", "unreachable"}:
        return Outcome("crashed" if said.how == "crashed" else "retry", said.text)
    if stored.status == UNINSTALLING:
        secret = await end_interrupted(attempt, stored, why=said.text)
    return Outcome(OperationState.FAILED, said.text, secret=secret)


async def unlock_newest(
    attempt: Attempt, newest: ReleaseLabels, *, why: str = "The operation was interrupted"
) -> Secret | None:
    """Turns that very revision into a failed one, if it is locked; its Secret after that, None if it is gone.

    What the hooks of the interrupted attempt made goes before that.
    """
    stored = stored_in(await attempt.read(newest.revision))
    if stored is None or stored.uid != newest.uid:
        return None
    return await end_interrupted(attempt, stored, why=why)


async def failed_by_lock(attempt: Attempt, newest: ReleaseLabels) -> Outcome:
    """The end where the release is locked by somebody else, told whose lock it is."""
    secret = await attempt.read(newest.revision)
    stored = stored_in(secret)
    if secret is None or stored is None:
        return Outcome("retry", "the release changed while it was looked at")
    return Outcome(OperationState.FAILED, describe_lock(stored, secret, cluster_id=attempt.row.cluster_id))

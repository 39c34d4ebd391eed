"""Uninstalls.

``worker.state`` classifies the release, ``worker.steps`` decides the next step. A release that is gone is a success,
whoever removed it; a newer release of its name is left untouched.
"""

from dataclasses import replace

from pilothouse.engine.protocol import UninstallRequest
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import UninstallCommand
from pilothouse.states import Action, OperationState
from pilothouse.worker.actions.locks import end_interrupted, failed_by_lock, unlock_newest
from pilothouse.worker.actions.post_actions import list_orphans, remove_objects
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.outcome import EngineResult, Event, Outcome
from pilothouse.worker.state import ReleaseSnapshot, ReleaseState, classify, classify_uninstalled
from pilothouse.worker.steps import NOTHING_DONE, Step

#: Helm's words.
GONE = "Uninstallation complete"
MADE_ANEW = f"{GONE}; a release of the same name was created since"


class Uninstall:
    """One attempt at removing a release."""

    action = Action.UNINSTALL

    def __init__(self, attempt: Attempt, order: UninstallCommand) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._order = order

    async def run(self) -> Outcome:
        """Remove the release, or find that it is gone."""
        seen = await self._attempt.observe_base()
        state = classify(seen, self._row)
        step = self._attempt.decide(self.action, state)
        if step is Step.UNLOCK_AND_ACT and seen.newest is not None:
            await unlock_newest(self._attempt, seen.newest)
            again = "" if self._order.disable_hooks else ", including its hooks"
            await self._attempt.record("action_resumed", f"attempt {self._row.attempt} re-runs the uninstall{again}")
            seen = await self._attempt.observe()
            state = classify(seen, self._row)
            step = self._attempt.decide(self.action, state)
        if seen.newest is None:
            return Outcome(OperationState.SUCCEEDED, GONE, gone=True)
        if step is Step.RECORD:
            return Outcome(OperationState.SUCCEEDED, MADE_ANEW)
        if step is Step.REFUSE:
            return await failed_by_lock(self._attempt, seen.newest)
        return await self._act(seen, seen.newest)

    async def abandon(self, reason: str) -> Outcome:
        """Give up: unlock our own revision and report the failure."""
        seen = await self._attempt.observe()
        step = self._attempt.decide(self.action, classify(seen, self._row), giving_up=True)
        if seen.newest is None:
            return Outcome(OperationState.SUCCEEDED, GONE, gone=True)
        if step is Step.UNLOCK_AND_ABANDON:
            return Outcome(
                OperationState.FAILED, reason, secret=await unlock_newest(self._attempt, seen.newest, why=reason)
            )
        return Outcome(OperationState.FAILED, reason)

    async def _act(self, seen: ReleaseSnapshot, newest: ReleaseLabels) -> Outcome:
        orphans = await list_orphans(self._attempt, seen)
        await self._attempt.begin(seen, revision=newest.revision)
        if orphans:
            await self._attempt.remember_objects(orphans)
        outcome = await remove(self._attempt, newest, disable_hooks=self._order.disable_hooks, wait=self._order.wait)
        if outcome.state != OperationState.SUCCEEDED:
            return outcome
        events = (
            await remove_objects(self._attempt, orphans, KindCache(self._attempt.client), newest=None)
            if orphans
            else ()
        )
        if self._order.disable_hooks and self._order.hooks:
            events = (*events, Event("hooks_not_run", f"{self._order.hooks} hooks not run"))
        return replace(outcome, events=events)


async def remove(attempt: Attempt, newest: ReleaseLabels, *, disable_hooks: bool, wait: str) -> Outcome:
    """Uninstall the release with this newest revision; return the outcome from what is left of that revision."""
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


async def _judge(attempt: Attempt, newest: ReleaseLabels, result: EngineResult) -> Outcome:
    if result.status in NOTHING_DONE:
        return Outcome("retry", result.text)
    # Helm removes the newest revision last; what went wrong before that did not keep the release
    text = f"{GONE}; {result.text}" if result.text else GONE
    absent_at = await attempt.find_absence(seen_at=newest.resource_version)
    secret = await attempt.read(newest.revision) if absent_at is None else None
    stored = stored_in(secret)
    found = classify_uninstalled(newest, stored, absent=absent_at is not None)
    match step := attempt.decide_after(result, found):
        case Step.RECORD:
            return Outcome(OperationState.SUCCEEDED, text, gone=found is ReleaseState.ABSENT, absent_at=absent_at)
        case Step.CRASH:
            return Outcome(
                "crashed", result.text or f"Helm reported success, but revision {newest.revision} is still there"
            )
        case Step.RETRY:
            return Outcome("retry", result.text)
    if step is Step.UNLOCK_AND_ABANDON and stored is not None:
        secret = await end_interrupted(attempt, stored, why=result.text)
    return Outcome(OperationState.FAILED, result.text, secret=secret)

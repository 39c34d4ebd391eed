"""Uninstalls.

``worker.state`` classifies the release, ``worker.steps`` decides the next step. A release that is gone is a success,
whoever removed it; a newer release of its name is left untouched.
"""

from dataclasses import dataclass, replace

from pilothouse.engine.protocol import Cascade, UninstallRequest, Wait
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import UninstallCommand
from pilothouse.states import Action, OperationState
from pilothouse.worker.actions.locks import clear_interrupted, end_interrupted, failed_by_lock, unlock_newest
from pilothouse.worker.actions.planned import describe_moved
from pilothouse.worker.actions.post_actions import list_orphans, remove_objects, supersede_older
from pilothouse.worker.actions.values import learn_values
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
        snapshot = await self._attempt.observe_base()
        state = self._classify(snapshot)
        step = self._attempt.decide(self.action, state)
        if step is Step.UNLOCK_AND_ACT and snapshot.newest is not None:
            if self._order.keep_history:
                await clear_interrupted(self._attempt, snapshot.newest)
            else:
                await unlock_newest(self._attempt, snapshot.newest)
            again = "" if self._order.disable_hooks else ", including its hooks"
            await self._attempt.record("action_resumed", f"attempt {self._row.attempt} re-runs the uninstall{again}")
            snapshot = await self._attempt.observe()
            state = self._classify(snapshot)
            step = self._attempt.decide(self.action, state)
        if snapshot.newest is None:
            return Outcome(OperationState.SUCCEEDED, GONE, gone=True)
        if step is Step.RECORD:
            return await self._record(state, snapshot, snapshot.newest)
        if step is Step.REFUSE:
            return await failed_by_lock(self._attempt, snapshot.newest)
        if moved := await describe_moved(self._attempt, self._order, snapshot):
            return Outcome(OperationState.FAILED, moved)
        return await self._act(snapshot, snapshot.newest)

    async def abandon(self, reason: str) -> Outcome:
        """Give up: unlock our own revision and report the failure."""
        snapshot = await self._attempt.observe()
        state = self._classify(snapshot)
        step = self._attempt.decide(self.action, state, giving_up=True)
        if snapshot.newest is None:
            return Outcome(OperationState.SUCCEEDED, GONE, gone=True)
        if step is Step.RECORD:
            return await self._record(state, snapshot, snapshot.newest)
        if step is Step.UNLOCK_AND_ABANDON:
            return Outcome(
                OperationState.FAILED, reason, secret=await unlock_newest(self._attempt, snapshot.newest, why=reason)
            )
        return Outcome(OperationState.FAILED, reason)

    def _classify(self, snapshot: ReleaseSnapshot) -> ReleaseState:
        return classify(snapshot, self._row, keeps_history=self._order.keep_history)

    async def _record(self, state: ReleaseState, snapshot: ReleaseSnapshot, newest: ReleaseLabels) -> Outcome:
        if state is not ReleaseState.KEPT:
            return Outcome(OperationState.SUCCEEDED, MADE_ANEW)
        secret = await self._attempt.read(newest.revision)
        stored = stored_in(secret)
        if stored is not None:
            await supersede_older(self._attempt, stored, snapshot)
        return Outcome(OperationState.SUCCEEDED, GONE, secret=secret)

    async def _act(self, snapshot: ReleaseSnapshot, newest: ReleaseLabels) -> Outcome:
        await learn_values(self._attempt, self._order, newest)
        orphans = await list_orphans(self._attempt, snapshot)
        await self._attempt.begin(snapshot, revision=newest.revision)
        if orphans:
            await self._attempt.remember_objects(orphans)
        outcome = await remove(self._attempt, newest, like=self._order)
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


@dataclass(frozen=True, kw_only=True)
class Removal:
    """How a release is removed; an ``UninstallCommand`` says the same."""

    disable_hooks: bool
    wait: Wait
    keep_history: bool = False
    cascade: Cascade = "background"
    description: str = ""


async def remove(attempt: Attempt, newest: ReleaseLabels, *, like: Removal | UninstallCommand) -> Outcome:
    """Uninstall the release with this newest revision; return the outcome from what is left of that revision."""
    row = attempt.row
    request = UninstallRequest(
        kubeconfig=attempt.cluster.kubeconfig,
        namespace=row.namespace,
        release_name=row.release_name,
        disable_hooks=like.disable_hooks,
        wait="ready" if like.wait in {"ready", "jobs"} else "hooks",
        timeout_seconds=attempt.seconds,
        description=like.description,
        keep_history=like.keep_history,
        cascade=like.cascade,
    )
    return await _judge(attempt, newest, await attempt.run(request), keeps_history=like.keep_history)


async def _judge(attempt: Attempt, newest: ReleaseLabels, result: EngineResult, *, keeps_history: bool) -> Outcome:
    if result.status in NOTHING_DONE:
        return Outcome("retry", result.text)
    # Helm removes the newest revision last; what went wrong before that did not keep the release
    text = f"{GONE}; {result.text}" if result.text else GONE
    absent_at = await attempt.find_absence(seen_at=newest.resource_version)
    secret = await attempt.read(newest.revision) if absent_at is None else None
    stored = stored_in(secret)
    found = classify_uninstalled(newest, stored, absent=absent_at is not None, keeps_history=keeps_history)
    match step := attempt.decide_after(result, found):
        case Step.RECORD:
            kept = secret if found is ReleaseState.KEPT else None
            gone = found is ReleaseState.ABSENT
            return Outcome(OperationState.SUCCEEDED, text, secret=kept, gone=gone, absent_at=absent_at)
        case Step.CRASH:
            return Outcome(
                "crashed", result.text or f"Helm reported success, but revision {newest.revision} is still there"
            )
        case Step.RETRY:
            return Outcome("retry", result.text)
    if step is Step.UNLOCK_AND_ABANDON and stored is not None:
        secret = await end_interrupted(attempt, stored, why=result.text)
    return Outcome(OperationState.FAILED, result.text, secret=secret)

"""Undo of a cancelled operation, whose child is already dead.

An install is uninstalled, or kept as a failed revision; if it wrote nothing, the release that it was to replace stays,
except for a DELETE. An upgrade or rollback goes back to the revision that was deployed before, by a rollback. So does
an uninstall while every object of the manifest exists, otherwise it is completed. Foreign revisions are left untouched,
as always. ``worker.steps`` decides which of these applies.

The undo is an attempt like any other: what a rollback is going to write is committed before its child starts, and a
worker that takes over continues it. Texts of failures say how the undo failed; the runner adds that it was a cancel.
"""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ClassVar

from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import (
    PLAIN,
    HelmOptions,
    InstallCommand,
    PlannableOrder,
    RollbackCommand,
    UninstallCommand,
    UpgradeCommand,
    target_of,
)
from pilothouse.states import OperationState, ReleaseStatus
from pilothouse.worker.actions.locks import end_interrupted, failed_by_lock, unlock_newest
from pilothouse.worker.actions.manifests import read_objects_of, stand_whole
from pilothouse.worker.actions.revision_action import SETTLE_SECONDS
from pilothouse.worker.actions.rollback import Rollback
from pilothouse.worker.actions.uninstall import GONE, MADE_ANEW, Removal, remove
from pilothouse.worker.actions.upgrade import Upgrade
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.diagnostics.retained_objects import find_left_behind
from pilothouse.worker.outcome import Event, Outcome
from pilothouse.worker.state import OURS, ReleaseSnapshot, ReleaseState, classify_cancelled, has_completed
from pilothouse.worker.steps import Step, Undo, may_still_change

_WHY = "Cancelled"


class CancelledInstall:
    """Uninstall the release, or keep it as a failed one, in as many attempts as it takes."""

    def __init__(self, attempt: Attempt, order: InstallCommand, *, include_hooks: bool) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._order = order
        self._include_hooks = include_hooks
        self._task = Undo.KEPT_INSTALL if self._row.keep_resources else Undo.INSTALL
        if self._row.cancel_deletes:
            self._task = Undo.DELETED_INSTALL

    async def run(self) -> Outcome:
        """Remove what the install left, or keep it."""
        snapshot = await self._attempt.observe()
        state = classify_cancelled(snapshot, self._row)
        if may_still_change(self._task, state, snapshot, self._row):
            await asyncio.sleep(SETTLE_SECONDS)
            snapshot = await self._attempt.observe()
            state = classify_cancelled(snapshot, self._row)
        step = self._attempt.decide(self._task, state)
        if snapshot.newest is None:
            return Outcome(OperationState.CANCELLED, "cancelled; there was nothing to uninstall", gone=True)
        match step:
            case Step.KEEP | Step.UNLOCK_AND_KEEP:
                return await self._keep(step, snapshot.newest)
            case Step.REMOVE | Step.UNLOCK_AND_REMOVE:
                return await self._remove(step, snapshot.newest)
        return self._leave(state, snapshot)

    async def abandon(self, reason: str) -> Outcome:
        """Give up: fail without a further attempt."""
        snapshot = await self._attempt.observe()
        newest, state = snapshot.newest, classify_cancelled(snapshot, self._row)
        step = self._attempt.decide(self._task, state, giving_up=True)
        if newest is None:
            return Outcome(OperationState.CANCELLED, "cancelled and uninstalled", gone=True)
        if step is Step.LEAVE:
            return self._leave(state, snapshot)
        if state not in OURS:
            return Outcome(OperationState.FAILED, reason)
        secret = None
        if step is Step.UNLOCK_AND_ABANDON:
            secret = await unlock_newest(self._attempt, newest, why=f"{_WHY}, but {reason}")
        return Outcome(OperationState.FAILED, reason, wrote_revision=True, revision=newest.revision, secret=secret)

    def _leave(self, state: ReleaseState, snapshot: ReleaseSnapshot) -> Outcome:
        text = "cancelled; the current release was created by another program"
        if snapshot.find_labelled(self._row.id, after=0) is not None:
            text = "cancelled; the current revision was written by another program since, and stays"
        elif self._task is Undo.KEPT_INSTALL:
            text = "cancelled; nothing was installed"
        elif state is ReleaseState.UNTOUCHED:
            text = "cancelled before anything was written"
        return Outcome(OperationState.CANCELLED, text)

    async def _keep(self, step: Step, newest: ReleaseLabels) -> Outcome:
        if step is Step.UNLOCK_AND_KEEP:
            secret = await unlock_newest(self._attempt, newest, why=_WHY)
        else:
            secret = await self._attempt.read(newest.revision)
        stored = stored_in(secret)
        if stored is not None and stored.uid == newest.uid and has_completed(stored):
            return _ended_before(stored, secret, "the cancel took effect")
        text = "cancelled; what was installed is kept"
        return Outcome(OperationState.CANCELLED, text, wrote_revision=True, revision=newest.revision, secret=secret)

    async def _remove(self, step: Step, newest: ReleaseLabels) -> Outcome:
        stored = await self._attempt.read_release(newest.revision)
        if stored is not None:
            await self._attempt.remember_objects(await read_objects_of(stored))
        if step is Step.UNLOCK_AND_REMOVE:
            await unlock_newest(self._attempt, newest, why=_WHY)
        outcome = await remove(
            self._attempt, newest, like=Removal(disable_hooks=not self._include_hooks, wait=self._order.wait)
        )
        if outcome.state == OperationState.SUCCEEDED:
            left = await find_left_behind(self._attempt, stored, crds=True) if stored is not None else ()
            return replace(outcome, state=OperationState.CANCELLED, text="cancelled and uninstalled", events=left)
        if outcome.state == OperationState.FAILED:
            text = f"the uninstall failed: {outcome.text}"
            return replace(outcome, text=text, wrote_revision=True, revision=newest.revision)
        return outcome


@dataclass(frozen=True)
class _Found:
    """The release at one moment, its newest revision, and the one that an update was going to write."""

    seen: ReleaseSnapshot
    state: ReleaseState
    stored: StoredRelease | None
    written: StoredRelease | None
    secret: Secret | None = field(repr=False)


class _Restoration(ABC):
    """Return to the revision that was deployed before the operation, if there is one."""

    task: ClassVar[Undo]
    #: Whether the operation leaves a revision of its own by which it is known.
    writes_revision: ClassVar[bool]
    #: Text for an operation that left nothing to undo.
    untouched: ClassVar[str]

    def __init__(self, attempt: Attempt, order: PlannableOrder, *, disable_hooks: bool) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._order = order
        self._disable_hooks = disable_hooks

    async def run(self) -> Outcome:
        """Undo what was begun; do nothing if nothing was begun."""
        if self._row.undo_revision is None and not self._attempt.begun:
            return Outcome(OperationState.CANCELLED, "cancelled before anything was done")
        found = await self._look_settled()
        step = await self._decide(found)
        if step is Step.UNLOCK_AND_LOOK and found.written is not None:
            await end_interrupted(self._attempt, found.written, why=_WHY)
            found = await self._look()
            step = await self._decide(found)
        return await self._follow(step, found)

    async def _decide(self, found: _Found) -> Step:
        can_restore = found.state not in OURS or await self._can_restore(found)
        return self._attempt.decide(self.task, found.state, can_restore=can_restore)

    async def _follow(self, step: Step, found: _Found) -> Outcome:
        newest, stored = found.seen.newest, found.stored
        if newest is None or step in {Step.RETRY, Step.UNLOCK_AND_LOOK}:
            return self._gone() if newest is None else Outcome("retry", "the release changed while it was read")
        match step:
            case Step.RESTORE | Step.UNLOCK_AND_RESTORE:
                return await self._restore(step, found)
            case Step.KEEP | Step.UNLOCK_AND_KEEP | Step.REMOVE | Step.UNLOCK_AND_REMOVE if stored is not None:
                return await self._finish(step, found, newest, stored)
            case Step.REFUSE:
                return await failed_by_lock(self._attempt, newest)
        since = f"cancelled; revision {newest.revision} was written by another program since, and stays"
        text = {ReleaseState.UNTOUCHED: self.untouched, ReleaseState.RECREATED: MADE_ANEW}.get(found.state, since)
        if step is Step.RECORD:
            return Outcome(OperationState.SUCCEEDED, text)
        wrote_revision = self.writes_revision and found.state is ReleaseState.FREE
        return Outcome(OperationState.CANCELLED, text, wrote_revision=wrote_revision)

    async def _look(self) -> _Found:
        snapshot = await self._attempt.observe()
        secret = await self._attempt.read(snapshot.newest.revision) if snapshot.newest is not None else None
        stored = written = stored_in(secret)
        await self._attempt.known.learn(stored)
        updated = self.writes_revision and self._row.undo_revision is None
        if updated and (stored is None or stored.revision != self._row.revision):
            written = await self._attempt.read_release(self._row.revision or 0)
        state = classify_cancelled(snapshot, self._row, stored, written, target=target_of(self._order))
        return _Found(snapshot, state, stored, written, secret)

    async def _look_settled(self) -> _Found:
        """Return the state of the release once late requests of the dead child have had their time."""
        found = await self._look()
        if may_still_change(self.task, found.state, found.seen, self._row):
            await asyncio.sleep(SETTLE_SECONDS)
            found = await self._look()
        return found

    async def _can_restore(self, found: _Found) -> bool:
        """Return True if there is a revision to go back to."""
        return found.seen.find(self._row.restore_revision) is not None

    @abstractmethod
    async def _finish(self, step: Step, found: _Found, newest: ReleaseLabels, stored: StoredRelease) -> Outcome:
        """End without a revision to go back to."""

    async def _restore(self, step: Step, found: _Found) -> Outcome:
        """Roll back to the last deployed revision, or resume the rollback that an earlier attempt started."""
        if step is Step.UNLOCK_AND_RESTORE and found.stored is not None:
            await end_interrupted(self._attempt, found.stored, why=_WHY)
        outcome = self._as_cancelled(await self._undo().run())
        if outcome.state != OperationState.CANCELLED:
            return outcome
        return replace(outcome, events=(*outcome.events, *await self._find_left_behind(outcome)))

    async def _find_left_behind(self, restored: Outcome) -> tuple[Event, ...]:
        del restored
        return ()

    async def _give_up(self, text: str) -> Outcome:
        return self._as_cancelled(await self._undo().abandon(text))

    def _gone(self) -> Outcome:
        return Outcome(OperationState.CANCELLED, "cancelled; the release is gone", gone=True)

    def _undo(self) -> Rollback:
        order = RollbackCommand(
            to_revision=self._row.restore_revision or 0,
            merged_values=self._order.merged_values,
            first_deployed=datetime.now(UTC),
            disable_hooks=self._disable_hooks,
            recreate=False,
            wait=self._order.wait,
            options=_undo_options(self._order),
        )
        return Rollback(self._attempt.undoing(), order)

    def _as_cancelled(self, outcome: Outcome) -> Outcome:
        """Convert the end of the undo to the end of the operation, which keeps its own revision number."""
        target = self._row.restore_revision
        if outcome.state == OperationState.SUCCEEDED:
            text = f"cancelled; rolled back to revision {target}, as revision {outcome.revision}"
            outcome = replace(outcome, state=OperationState.CANCELLED, text=text)
        elif outcome.state == OperationState.FAILED:
            outcome = replace(outcome, text=f"the rollback to revision {target} failed: {outcome.text}")
        else:
            return outcome
        return replace(outcome, revision=None, wrote_revision=self.writes_revision)


class CancelledUpdate(_Restoration):
    """Deploy the revision again that was deployed before an upgrade or a rollback."""

    task = Undo.UPDATE
    writes_revision = True
    untouched = "cancelled before anything was written"

    def __init__(self, attempt: Attempt, order: UpgradeCommand | RollbackCommand) -> None:
        super().__init__(attempt, order, disable_hooks=order.disable_hooks)
        self._order: UpgradeCommand | RollbackCommand = order

    async def abandon(self, reason: str) -> Outcome:
        """Give up: fail without a further attempt."""
        if self._row.undo_revision is not None:
            return await self._give_up(reason)
        order, attempt = self._order, self._attempt
        action = Upgrade(attempt, order) if isinstance(order, UpgradeCommand) else Rollback(attempt, order)
        return replace(await action.abandon(reason), state=OperationState.FAILED, text=reason)

    async def _finish(self, step: Step, found: _Found, newest: ReleaseLabels, stored: StoredRelease) -> Outcome:
        """Keep the revision: a foreign one precedes it, or none was ever deployed."""
        del newest
        displaced, secret = found.state not in OURS, found.secret
        if has_completed(stored):
            what = "the cancel took effect" if displaced else "the cancel, and there is no earlier revision"
            return _ended_before(stored, secret, what)
        text = "cancelled; no revision of the release was ever deployed before, so it stays failed"
        if displaced:
            text = (
                f"cancelled; revision {self._row.revision} was written by another program meanwhile, so nothing is "
                f"rolled back, and revision {stored.revision} stays failed"
            )
        if step is Step.UNLOCK_AND_KEEP:
            secret = await end_interrupted(self._attempt, stored, why=_WHY)
        return Outcome(OperationState.CANCELLED, text, wrote_revision=True, revision=stored.revision, secret=secret)

    async def _find_left_behind(self, restored: Outcome) -> tuple[Event, ...]:
        removed, stored = await self._attempt.read_release(self._row.revision or 0), stored_in(restored.secret)
        if removed is None or stored is None:
            return ()
        return await find_left_behind(self._attempt, removed, replaced_by=stored)


class CancelledUninstall(_Restoration):
    """Deploy the release again if all its objects exist, else complete its uninstall."""

    task = Undo.UNINSTALL
    writes_revision = False
    untouched = "cancelled before anything was removed"

    def __init__(self, attempt: Attempt, order: UninstallCommand) -> None:
        super().__init__(attempt, order, disable_hooks=order.disable_hooks)
        self._uninstall = order

    async def abandon(self, reason: str) -> Outcome:
        """Give up: fail without a further attempt."""
        if self._row.undo_revision is not None:
            return await self._give_up(reason)
        found = await self._look_settled()
        step = self._attempt.decide(self.task, found.state, giving_up=True)
        if step is Step.UNLOCK_AND_ABANDON and found.stored is not None:
            secret = await end_interrupted(self._attempt, found.stored, why=f"{_WHY}, but {reason}")
            return Outcome(OperationState.FAILED, reason, secret=secret)
        return await self._follow(step, found)

    async def _can_restore(self, found: _Found) -> bool:
        if found.stored is None or self._has_completed(found.stored) or not await super()._can_restore(found):
            return False
        return await stand_whole(self._attempt, await read_objects_of(found.stored))

    async def _finish(self, step: Step, found: _Found, newest: ReleaseLabels, stored: StoredRelease) -> Outcome:
        """Complete the uninstall."""
        if self._has_completed(stored):
            text = f"{GONE}; it had completed before the cancel took effect"
            return Outcome(OperationState.SUCCEEDED, text, secret=found.secret)
        await self._attempt.remember_objects(await read_objects_of(stored))
        if step is Step.UNLOCK_AND_REMOVE:
            await end_interrupted(self._attempt, stored, why=_WHY)
        outcome = await remove(self._attempt, newest, like=self._uninstall)
        if outcome.state == OperationState.SUCCEEDED:
            text = f"{outcome.text}; parts of the release were deleted before the cancel took effect"
            return replace(outcome, text=text, events=await find_left_behind(self._attempt, stored, crds=True))
        if outcome.state == OperationState.FAILED:
            return replace(outcome, text=f"parts of the release were deleted, and the uninstall failed: {outcome.text}")
        return outcome

    def _has_completed(self, stored: StoredRelease) -> bool:
        return self._uninstall.keep_history and stored.status == ReleaseStatus.UNINSTALLED

    def _gone(self) -> Outcome:
        if self._row.undo_revision is not None:
            return super()._gone()
        return Outcome(OperationState.SUCCEEDED, f"{GONE}; it had completed before the cancel took effect", gone=True)


def _undo_options(order: PlannableOrder) -> HelmOptions:
    """Return the options of the rollback that undoes the order: it writes to objects as that, as Helm's own does.

    And as Helm's it prunes no history, in which are what was undone and what to go back to; the next write does.
    """
    options = getattr(order, "options", PLAIN)
    return HelmOptions(force_conflicts=options.force_conflicts, force_replace=options.force_replace, history_max=0)


def _ended_before(stored: StoredRelease, secret: Secret | None, what: str) -> Outcome:
    text = f"{stored.description}; it had completed before {what}"
    return Outcome(OperationState.SUCCEEDED, text, wrote_revision=True, revision=stored.revision, secret=secret)

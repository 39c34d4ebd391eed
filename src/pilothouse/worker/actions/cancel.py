"""The end of an operation that is being cancelled: its child is dead, and what it did is undone.

An install is uninstalled, unless it is to be kept: then its revision stays as a failed one. If it wrote nothing, what
it was to replace stays as it was, except for a DELETE. An upgrade and a rollback lead back to the revision that was
deployed before, by a rollback. An uninstall goes back to it too while every object of the manifest still stands, else
it is finished. What is somebody else's is left alone, as ever.

The undo is an attempt like any other: what a rollback is going to write is committed before its child starts, and
whoever takes over goes on with it. Texts of failures say how the undo failed; the runner adds that it was a cancel.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, Literal

from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL, PENDING, UNINSTALLING, StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import (
    InstallCommand,
    Order,
    RollbackCommand,
    UninstallCommand,
    UpgradeCommand,
)
from pilothouse.states import OperationState, ReleaseStatus
from pilothouse.worker.actions.locks import end_interrupted, failed_by_lock, unlock_newest
from pilothouse.worker.actions.manifests import read_objects_of, stand_whole
from pilothouse.worker.actions.rollback import Rollback
from pilothouse.worker.actions.uninstall import GONE, MADE_ANEW, remove
from pilothouse.worker.actions.upgrade import Upgrade
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.diagnostics.retained_objects import find_left_behind
from pilothouse.worker.outcome import Event, Outcome
from pilothouse.worker.state import ReleaseSnapshot, is_labelled, is_of_earlier_attempt, is_written_by

#: A request that a killed child had sent can still take effect that long.
_SETTLE_SECONDS = 1.0
_WHY = "Cancelled"


class CancelledInstall:
    """Its release is uninstalled, or kept as a failed one, in as many attempts as it takes."""

    def __init__(self, attempt: Attempt, order: InstallCommand, *, include_hooks: bool) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._order = order
        self._include_hooks = include_hooks

    async def run(self) -> Outcome:
        """Removes what the install left, or keeps it."""
        seen = await self._attempt.observe()
        if self._attempt.begun and not self._is_there(seen):
            await asyncio.sleep(_SETTLE_SECONDS)
            seen = await self._attempt.observe()
        if seen.newest is None:
            return Outcome(OperationState.CANCELLED, "cancelled; there was nothing to uninstall", gone=True)
        if not self._is_there(seen):
            if self._row.keep_resources:
                return Outcome(OperationState.CANCELLED, "cancelled; nothing was installed")
            if seen.newest.revision != self._row.base_revision:
                return Outcome(
                    OperationState.CANCELLED, "cancelled; the release that is there now was made by another program"
                )
            if not self._row.cancel_deletes:
                return Outcome(OperationState.CANCELLED, "cancelled before anything was written")
            if seen.newest.status in PENDING:
                return await failed_by_lock(self._attempt, seen.newest)
        return await (self._keep(seen.newest) if self._row.keep_resources else self._remove(seen.newest))

    async def end(self, text: str) -> Outcome:
        """The failure that nothing more is tried after."""
        seen = await self._attempt.observe()
        if seen.newest is None:
            return Outcome(OperationState.CANCELLED, "cancelled and uninstalled", gone=True)
        secret = None
        if self._is_there(seen) and (seen.newest.status in PENDING or seen.newest.status == UNINSTALLING):
            secret = await unlock_newest(self._attempt, seen.newest, why=f"{_WHY}, but {text}")
        return Outcome(OperationState.FAILED, text, wrote_revision=True, revision=seen.newest.revision, secret=secret)

    async def _keep(self, newest: ReleaseLabels) -> Outcome:
        secret = await unlock_newest(self._attempt, newest, why=_WHY)
        stored = stored_in(secret)
        if stored is not None and stored.status == ReleaseStatus.DEPLOYED:
            text = f"{stored.description}; it had ended before the cancel took effect"
            return Outcome(OperationState.SUCCEEDED, text, wrote_revision=True, revision=stored.revision, secret=secret)
        text = "cancelled; what was installed is kept"
        return Outcome(OperationState.CANCELLED, text, wrote_revision=True, revision=newest.revision, secret=secret)

    async def _remove(self, newest: ReleaseLabels) -> Outcome:
        stored = stored_in(await self._attempt.read(newest.revision))
        if stored is not None:
            await self._attempt.remember_objects(await read_objects_of(stored))
        if newest.status in PENDING or newest.status == UNINSTALLING:
            await unlock_newest(self._attempt, newest, why=_WHY)
        outcome = await remove(self._attempt, newest, disable_hooks=not self._include_hooks, wait=self._order.wait)
        if outcome.state == OperationState.SUCCEEDED:
            left = await find_left_behind(self._attempt, stored, crds=True) if stored is not None else ()
            return replace(outcome, state=OperationState.CANCELLED, text="cancelled and uninstalled", events=left)
        if outcome.state == OperationState.FAILED:
            text = f"the uninstall failed: {outcome.text}"
            return Outcome(
                OperationState.FAILED, text, wrote_revision=True, revision=newest.revision, secret=outcome.secret
            )
        return outcome

    def _is_there(self, seen: ReleaseSnapshot) -> bool:
        newest = seen.newest
        return newest is not None and newest.labels.get(OPERATION_LABEL) == self._row.id


class _Restoration:
    """The way back to the revision that was deployed before the operation, for those that have one."""

    #: Whether the operation leaves a revision of its own by which it is known.
    writes_revision: ClassVar[bool]

    def __init__(self, attempt: Attempt, order: Order, *, disable_hooks: bool) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._order = order
        self._disable_hooks = disable_hooks

    async def _restore(self, seen: ReleaseSnapshot) -> Outcome:
        """By a rollback that this attempt, or one before it, begins; ends or takes over what of it is there."""
        newest = seen.newest
        if newest is None:
            return Outcome(OperationState.CANCELLED, "cancelled; the release is gone", gone=True)
        if self._row.undo_revision is not None and not await self._is_of_undo(newest, seen):
            return await self._leave(newest)
        outcome = self._as_cancelled(await self._undo().run())
        if outcome.state != OperationState.CANCELLED:
            return outcome
        return replace(outcome, events=(*outcome.events, *await self._find_left_behind(outcome)))

    async def _find_left_behind(self, restored: Outcome) -> tuple[Event, ...]:
        del restored
        return ()

    async def _give_up(self, text: str) -> Outcome:
        return self._as_cancelled(await self._undo().end(text))

    async def _leave(self, newest: ReleaseLabels) -> Outcome:
        """What is there is none of ours: as it was before, or what another program made since."""
        if (newest.revision, newest.uid) == (self._row.base_revision, self._row.base_uid):
            return Outcome(OperationState.CANCELLED, "cancelled before anything was written")
        if newest.status in PENDING or newest.status == UNINSTALLING:
            return await failed_by_lock(self._attempt, newest)
        text = f"cancelled; revision {newest.revision} was made by another program since, and stays"
        return Outcome(OperationState.CANCELLED, text, wrote_revision=self.writes_revision)

    async def _is_of_undo(self, newest: ReleaseLabels, seen: ReleaseSnapshot) -> bool:
        """Whether nothing came after what the undo began on, but what it wrote itself."""
        if newest.revision == self._row.base_revision:
            return newest.uid == self._row.base_uid
        if newest.revision != self._row.undo_revision:
            return False
        stored = stored_in(await self._attempt.read(newest.revision))
        return stored is not None and is_of_earlier_attempt(self._attempt.undoing().row, stored, seen)

    def _undo(self) -> Rollback:
        order = RollbackCommand(
            to_revision=self._row.restore_revision or 0,
            merged_values=self._order.merged_values,
            first_deployed=datetime.now(UTC),
            disable_hooks=self._disable_hooks,
            recreate=False,
            wait=self._order.wait,
        )
        return Rollback(self._attempt.undoing(), order)

    def _as_cancelled(self, outcome: Outcome) -> Outcome:
        """The end of the undo as the end of the operation, whose revision stays the one that it wrote."""
        target = self._row.restore_revision
        if outcome.state == OperationState.SUCCEEDED:
            text = f"cancelled; rolled back to revision {target}, as revision {outcome.revision}"
            return replace(
                outcome, state=OperationState.CANCELLED, text=text, revision=None, wrote_revision=self.writes_revision
            )
        if outcome.state == OperationState.FAILED:
            text = f"the rollback to revision {target} failed: {outcome.text}"
            return replace(outcome, text=text, revision=None, wrote_revision=self.writes_revision)
        return outcome

    def _is_left_by_us(self, stored: StoredRelease) -> bool:
        """Whether an attempt of this operation unlocked it."""
        return stored.unlocked and f"operation {self._row.id}" in stored.description


class CancelledUpdate(_Restoration):
    """The revision that was deployed before an upgrade or a rollback is deployed again."""

    writes_revision = True

    def __init__(self, attempt: Attempt, order: UpgradeCommand | RollbackCommand) -> None:
        super().__init__(attempt, order, disable_hooks=order.disable_hooks)
        action: Upgrade | Rollback = (
            Upgrade(attempt, order) if isinstance(order, UpgradeCommand) else Rollback(attempt, order)
        )
        self._action = action

    async def run(self) -> Outcome:
        """Takes back what was begun; what was never begun is simply not done."""
        if self._row.undo_revision is not None:
            return await self._restore(await self._attempt.observe())
        if not self._attempt.begun:
            return Outcome(OperationState.CANCELLED, "cancelled before anything was done")
        seen = await self._attempt.observe()
        if seen.newest is not None and seen.newest.revision != self._row.revision:
            await asyncio.sleep(_SETTLE_SECONDS)
            seen = await self._attempt.observe()
        if seen.newest is None:
            return Outcome(OperationState.CANCELLED, "cancelled; the release is gone", gone=True)
        await self._unlock_ours(seen)
        seen = await self._attempt.observe()
        return await self._take_back(seen)

    async def end(self, text: str) -> Outcome:
        """The failure that nothing more is tried after."""
        if self._row.undo_revision is not None:
            return await self._give_up(text)
        outcome = await self._action.end(text)
        return replace(outcome, state=OperationState.FAILED, text=text)

    async def _take_back(self, seen: ReleaseSnapshot) -> Outcome:
        newest = seen.newest
        if newest is None:
            return Outcome(OperationState.CANCELLED, "cancelled; the release is gone", gone=True)
        secret = await self._attempt.read(newest.revision)
        stored = stored_in(secret)
        if stored is None or stored.uid != newest.uid:
            return Outcome("retry", "the release changed while it was looked at")
        if self._is_overtaken(stored, seen):
            return await self._keep_overtaken(stored, secret)
        if not self._is_ours(stored, seen):
            return await self._leave(newest)
        if seen.find(self._row.restore_revision) is not None:
            return await self._restore(seen)
        state: Literal[OperationState.SUCCEEDED, OperationState.CANCELLED] = OperationState.CANCELLED
        text = "cancelled; nothing of the release was ever deployed before, so it stays failed"
        if stored.status == ReleaseStatus.DEPLOYED:
            state, text = (
                OperationState.SUCCEEDED,
                f"{stored.description}; it had ended before the cancel, and followed nothing",
            )
        return Outcome(state, text, wrote_revision=True, revision=stored.revision, secret=secret)

    async def _find_left_behind(self, restored: Outcome) -> tuple[Event, ...]:
        removed, stored = stored_in(await self._attempt.read(self._row.revision or 0)), stored_in(restored.secret)
        if removed is None or stored is None:
            return ()
        return await find_left_behind(self._attempt, removed, replaced_by=stored)

    async def _keep_overtaken(self, stored: StoredRelease, secret: Secret | None) -> Outcome:
        """Another program's revision came between ours and what was deployed before: that one is not undone either."""
        if stored.status == ReleaseStatus.DEPLOYED:
            text = f"{stored.description}; it had ended before the cancel took effect"
            return Outcome(OperationState.SUCCEEDED, text, wrote_revision=True, revision=stored.revision, secret=secret)
        if stored.status in PENDING:
            secret = await end_interrupted(self._attempt, stored, why=_WHY)
        text = (
            f"cancelled; revision {self._row.revision} was made by another program meanwhile, so nothing is rolled"
            f" back, and revision {stored.revision} stays failed"
        )
        return Outcome(OperationState.CANCELLED, text, wrote_revision=True, revision=stored.revision, secret=secret)

    def _is_overtaken(self, stored: StoredRelease, seen: ReleaseSnapshot) -> bool:
        """Whether it is ours, after a number that another program took first."""
        taken = seen.find(self._row.revision)
        if not is_labelled(self._row) or taken is None or taken.labels.get(OPERATION_LABEL) == self._row.id:
            return False
        ours = seen.find_labelled(self._row.id, after=taken.revision)
        return ours is not None and ours.uid == stored.uid

    async def _unlock_ours(self, seen: ReleaseSnapshot) -> None:
        stored = stored_in(await self._attempt.read(self._row.revision or 0))
        if stored is not None and stored.status in PENDING and self._is_ours(stored, seen):
            await end_interrupted(self._attempt, stored, why=_WHY)

    def _is_ours(self, stored: StoredRelease, seen: ReleaseSnapshot) -> bool:
        if stored.revision == self._row.revision:
            return is_of_earlier_attempt(self._row, stored, seen)
        # what an attempt before the last one left
        again = (self._row.last_writing_attempt or 0) > 1 and stored.status == ReleaseStatus.FAILED
        return self._is_left_by_us(stored) or (again and is_written_by(self._row, stored))


class CancelledUninstall(_Restoration):
    """The release is deployed again if all of it still stands, else its uninstall is finished."""

    writes_revision = False

    def __init__(self, attempt: Attempt, order: UninstallCommand) -> None:
        super().__init__(attempt, order, disable_hooks=order.disable_hooks)

    async def run(self) -> Outcome:
        """Takes back what was begun, or ends it."""
        seen = await self._attempt.observe()
        if self._row.undo_revision is not None:
            return await self._restore(seen)
        if not self._attempt.begun:
            return Outcome(OperationState.CANCELLED, "cancelled before anything was done")
        found = await self._find_touched(seen)
        if isinstance(found, Outcome):
            return found
        if seen.find(self._row.restore_revision) is not None and await stand_whole(
            self._attempt, await read_objects_of(found)
        ):
            await end_interrupted(self._attempt, found, why=_WHY)
            return await self._restore(await self._attempt.observe())
        return await self._finish(seen, found)

    async def end(self, text: str) -> Outcome:
        """The failure that nothing more is tried after."""
        if self._row.undo_revision is not None:
            return await self._give_up(text)
        seen = await self._attempt.observe()
        found = await self._find_touched(seen)
        if isinstance(found, Outcome):
            return found
        return Outcome(
            OperationState.FAILED, text, secret=await end_interrupted(self._attempt, found, why=f"{_WHY}, but {text}")
        )

    async def _find_touched(self, seen: ReleaseSnapshot) -> StoredRelease | Outcome:
        """The revision that the uninstall worked on; an outcome if there is nothing of it to undo."""
        touched = await self._look_at(seen)
        if touched is None:
            await asyncio.sleep(_SETTLE_SECONDS)
            seen = await self._attempt.observe()
            touched = await self._look_at(seen)
        return touched or Outcome(OperationState.CANCELLED, "cancelled before anything was removed")

    async def _look_at(self, seen: ReleaseSnapshot) -> StoredRelease | Outcome | None:
        """The same at one moment; None if the revision is as the uninstall found it."""
        newest = seen.newest
        if newest is None:
            text = f"{GONE}; it had ended before the cancel took effect"
            return Outcome(OperationState.SUCCEEDED, text, gone=True)
        if not seen.has_base_of(self._row):
            return Outcome(OperationState.SUCCEEDED, MADE_ANEW)
        if newest.revision != self._row.base_revision:
            return await self._leave(newest)
        stored = stored_in(await self._attempt.read(newest.revision))
        if stored is None or stored.uid != newest.uid:
            return Outcome("retry", "the release changed while it was looked at")
        untouched = stored.resource_version == self._row.base_version and not self._is_left_by_us(stored)
        return None if untouched else stored

    async def _finish(self, seen: ReleaseSnapshot, stored: StoredRelease) -> Outcome:
        newest = seen.find(stored.revision)
        if newest is None:
            return Outcome("retry", "the release changed while it was looked at")
        await self._attempt.remember_objects(await read_objects_of(stored))
        if stored.status == UNINSTALLING:
            await end_interrupted(self._attempt, stored, why=_WHY)
        outcome = await remove(self._attempt, newest, disable_hooks=self._disable_hooks, wait=self._order.wait)
        if outcome.state == OperationState.SUCCEEDED:
            text = f"{outcome.text}; parts of the release were deleted before the cancel took effect"
            return replace(outcome, text=text, events=await find_left_behind(self._attempt, stored, crds=True))
        if outcome.state == OperationState.FAILED:
            return replace(outcome, text=f"parts of the release were deleted, and the uninstall failed: {outcome.text}")
        return outcome

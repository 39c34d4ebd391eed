"""Selection of the action that carries out an operation."""

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Protocol

import structlog

from pilothouse.engine.deadline import Fence
from pilothouse.errors import ClusterDenied, ClusterUnavailable, NotFound
from pilothouse.services.releases.commands import (
    InstallCommand,
    RollbackCommand,
    RunTestsCommand,
    UninstallCommand,
    UpgradeCommand,
)
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.states import OperationState
from pilothouse.store.operations import OperationRow
from pilothouse.worker.actions.cancel import CancelledInstall, CancelledUninstall, CancelledUpdate
from pilothouse.worker.actions.install import Install
from pilothouse.worker.actions.post_actions import remove_created
from pilothouse.worker.actions.release_tests import (
    CancelledTests,
    RunTests,
    check,
    is_checked,
    stop_tests,
    unchecked,
)
from pilothouse.worker.actions.rollback import Rollback
from pilothouse.worker.actions.uninstall import Uninstall
from pilothouse.worker.actions.upgrade import Upgrade
from pilothouse.worker.attempt import Attempt, AttemptContext, open_attempt
from pilothouse.worker.diagnostics.evidence import collect, of_silence, of_tests
from pilothouse.worker.maintenance.archives import Archives
from pilothouse.worker.outcome import Outcome
from pilothouse.worker.slots import Slot
from pilothouse.worker.state import is_to_be_undone, may_have_ended_unseen, may_have_left_a_lock

log = structlog.get_logger(__name__)


class Action(Protocol):
    """One attempt at one operation."""

    async def run(self) -> Outcome:
        """Do what was requested, or find it done."""
        ...

    async def abandon(self, reason: str) -> Outcome:
        """Give up: the operation has failed, and leaves no lock behind."""
        ...


class Actions:
    """Carry out operations for the runner.

    Both methods raise ClusterUnavailable if the cluster cannot be read, and LeaseLost if the attempt lost the
    operation, or the operation is to be cancelled instead.
    """

    def __init__(self, shared: ReleaseDependencies) -> None:
        self._context = AttemptContext(**vars(shared), archives=Archives(shared.database))

    async def attempt(self, row: OperationRow, *, fence: Fence, seconds: float, slot: Slot) -> Outcome:
        """Run one attempt, in at most ``seconds``: at the request, or at undoing what is being cancelled."""
        attempt = None
        try:
            attempt = await open_attempt(self._context, row, fence=fence, seconds=seconds, slot=slot)
            if attempt.unreadable:
                return await _end_unreadable(attempt, attempt.unreadable)
            return await _explained(attempt, _carry_out(attempt))
        except NotFound:
            return Outcome(OperationState.FAILED, "the cluster was removed from Pilothouse before the operation ended")
        except ClusterDenied as error:
            # what was begun is found by the repair, once the account is let in again
            return Outcome(OperationState.FAILED, str(error), unseen=attempt is not None and attempt.acted)

    async def give_up(self, row: OperationRow, *, fence: Fence, text: str) -> Outcome:
        """End the operation after too many crashes, or after the deadline."""
        try:
            attempt = await open_attempt(self._context, row, fence=fence, seconds=1.0)
            if attempt.unreadable:
                return await _end_unreadable(attempt, text)
            return await _explained(attempt, _abandon(attempt, text), text=text)
        except (NotFound, ClusterDenied):
            return Outcome(OperationState.FAILED, text)

    async def look_again(self, row: OperationRow, *, fence: Fence) -> Attempt:
        """Prepare a repair after the end: if it came while the cluster was away, unlock and stop what was left.

        Also raises NotFound if the cluster was removed.
        """
        attempt = await open_attempt(self._context, row, fence=fence, seconds=1.0)
        if may_have_ended_unseen(row) and (isinstance(attempt.order, RunTestsCommand) or is_checked(attempt.order)):
            await stop_tests(attempt, row.revision, only_running=True)
        if may_have_left_a_lock(row):
            await _action(attempt).abandon(row.status_description)
        return attempt


async def _carry_out(attempt: Attempt) -> Outcome:
    """Carry out the action, with the checks that are a part of it, or undo it, after what its checks have started."""
    if not is_checked(attempt.order):
        return await _action(attempt).run()
    if attempt.row.cancelling_at is not None:
        await stop_tests(attempt, attempt.row.revision)
        return unchecked(await _action(attempt).run(), undone=True)
    outcome = await _action(attempt).run()
    return await check(attempt, outcome) if _has_succeeded(outcome) else outcome


async def _abandon(attempt: Attempt, text: str) -> Outcome:
    """Give up; what its checks have started is removed."""
    if not is_checked(attempt.order):
        return await _action(attempt).abandon(text)
    await stop_tests(attempt, attempt.row.revision)
    return unchecked(await _action(attempt).abandon(text), undone=attempt.row.cancelling_at is not None)


def _has_succeeded(outcome: Outcome) -> bool:
    return outcome.state == OperationState.SUCCEEDED


async def _end_unreadable(attempt: Attempt, text: str) -> Outcome:
    """Fail an operation whose command is unreadable, after unlocking what an earlier attempt left.

    Without evidence: the values, which no text may contain, are not known.
    """
    log.error("order_unreadable", operation_id=attempt.row.id, cause=attempt.unreadable)
    if not attempt.begun:
        return Outcome(OperationState.FAILED, text)
    try:
        outcome = await _action(attempt).abandon(text)
    except (ClusterUnavailable, ClusterDenied):
        return Outcome(OperationState.FAILED, text, unseen=True)  # the repair unlocks it
    is_final = isinstance(outcome.state, OperationState)
    return outcome if is_final else Outcome(OperationState.FAILED, text, unseen=True)


async def _explained(attempt: Attempt, work: Coroutine[Any, Any, Outcome], *, text: str = "") -> Outcome:
    """Await the action; on failure, store evidence before the outcome is recorded.

    Evidence about hooks is stored even if another attempt follows.
    """
    try:
        outcome = await work
    except (ClusterUnavailable, ClusterDenied) as error:
        if text or attempt.followed.pods:
            await attempt.keep_evidence(await of_silence(attempt, text or str(error), cause=str(error)))
        raise
    if _has_succeeded(outcome) and attempt.followed.tests is not None and attempt.followed.tests.pods:
        await attempt.keep_evidence(await of_tests(attempt, outcome))
    if outcome.state == OperationState.FAILED:
        await attempt.keep_evidence(await collect(attempt, outcome))
        return await _cleaned_up(attempt, replace(outcome, is_undone=_is_undone(attempt, outcome)))
    if attempt.followed.pods and outcome.state in {"retry", "crashed"}:
        silent = "the cluster was not read"
        await attempt.keep_evidence(await of_silence(attempt, outcome.text, cause=silent))
    return outcome


def _is_undone(attempt: Attempt, outcome: Outcome) -> bool:
    order = attempt.order
    rolls_back = not isinstance(order, UninstallCommand | RunTestsCommand) and order.options.rollback_on_failure
    return is_to_be_undone(attempt.row, rolls_back=rolls_back, failed=True, wrote_revision=outcome.wrote_revision)


async def _cleaned_up(attempt: Attempt, failed: Outcome) -> Outcome:
    """Delete what a failed upgrade created, if its order says so; an undo does the same."""
    order = attempt.order
    wanted = isinstance(order, UpgradeCommand) and order.options.cleanup_on_fail
    if not wanted or failed.is_undone or not failed.wrote_revision or attempt.row.cancelling_at is not None:
        return failed
    return replace(failed, events=(*failed.events, *await remove_created(attempt, failed.secret)))


def _action(attempt: Attempt) -> Action:
    """Return the requested action; or its undo, if it is being cancelled, or was."""
    if attempt.row.cancelling_at is not None:
        return _undo(attempt)
    match attempt.order:
        case InstallCommand() as order:
            return Install(attempt, order)
        case UpgradeCommand() as order:
            return Upgrade(attempt, order)
        case RollbackCommand() as order:
            return Rollback(attempt, order)
        case UninstallCommand() as order:
            return Uninstall(attempt, order)
        case RunTestsCommand() as order:
            return RunTests(attempt, order)


def _undo(attempt: Attempt) -> Action:
    match attempt.order:
        case InstallCommand() as order:
            hooks = attempt.row.include_hooks or attempt.settings.hooks.on_delete
            return CancelledInstall(attempt, order, include_hooks=hooks)
        case UpgradeCommand() | RollbackCommand() as order:
            return CancelledUpdate(attempt, order)
        case UninstallCommand() as order:
            return CancelledUninstall(attempt, order)
        case RunTestsCommand():
            return CancelledTests(attempt)

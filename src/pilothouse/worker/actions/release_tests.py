"""Tests of a release: an operation of their own, or the last part of the one that wrote the revision.

Helm keeps no lock while tests run and judges each by its pods, so the engine's answer is the outcome; the revision's
hooks tell which tests there were. What an interrupted attempt has started is removed before anything else is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pilothouse.engine.protocol import RunTestsRequest
from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.kubernetes.stored_hooks import StoredHook, decode_hooks
from pilothouse.services.releases.commands import Order, RunTestsCommand, UninstallCommand
from pilothouse.states import Action, OperationState
from pilothouse.worker.actions.hooks import remove_hook_objects
from pilothouse.worker.actions.locks import failed_by_lock
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.outcome import Event, Outcome
from pilothouse.worker.state import classify_tested
from pilothouse.worker.steps import AFTER_CHECK, CHECK, STOP_CHECK, Step

#: The clock of the worker, by which Helm dates a run, need not be the database's.
_CLOCKS: Final = timedelta(seconds=60)


@dataclass(frozen=True)
class _Choice:
    """Which tests are run; all, without names."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class RunTests:
    """One attempt at running the tests of a release."""

    def __init__(self, attempt: Attempt, order: RunTestsCommand) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._choice = _Choice(order.include, order.exclude)

    async def run(self) -> Outcome:
        """Run the tests, after what an earlier attempt left is removed."""
        row = self._row
        outcome = await _run(self._attempt, row.base_revision, row.base_uid, self._choice, begins=True)
        return replace(outcome, text=outcome.text or "the release has no tests")

    async def abandon(self, reason: str) -> Outcome:
        """Give up: remove what the tests have started."""
        await stop_tests(self._attempt, self._row.revision)
        return Outcome(OperationState.FAILED, reason)


class CancelledTests:
    """End the tests of a release: their objects are removed."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    async def run(self) -> Outcome:
        """Remove what the tests have started."""
        await stop_tests(self._attempt, self._attempt.row.revision)
        return Outcome(OperationState.CANCELLED, "cancelled; the release is as it was")

    async def abandon(self, reason: str) -> Outcome:
        """Give up: fail without a further attempt."""
        await self.run()
        return Outcome(OperationState.FAILED, reason)


def is_checked(order: Order) -> bool:
    """Return whether tests are the last part of the operation."""
    return not isinstance(order, UninstallCommand | RunTestsCommand) and Action.TEST in order.options.checks


async def check(attempt: Attempt, written: Outcome) -> Outcome:
    """Run the tests of the revision that the operation has written; what fails there is its failure."""
    stored = stored_in(written.secret)
    if stored is None:
        return Outcome("retry", "the revision could not be read after it was written")
    tested = await _run(attempt, stored.revision, stored.uid, _Choice(), begins=False)
    if tested.state == OperationState.SUCCEEDED:
        text = f"{written.text}; {tested.text}" if tested.text else written.text
        return replace(
            written, text=text, secret=tested.secret or written.secret, events=(*written.events, *tested.events)
        )
    if tested.state == OperationState.FAILED:
        return replace(
            written,
            state=OperationState.FAILED,
            text=f"revision {stored.revision} is deployed, but its tests failed: {tested.text}",
            secret=tested.secret or written.secret,
            events=(*written.events, *tested.events),
        )
    return tested


def unchecked(given_up: Outcome, *, undone: bool) -> Outcome:
    """Return the end of an operation of which no more is known than that its revision is deployed.

    ``undone``: it was to be undone, and there was nothing to go back to.
    """
    if given_up.state != OperationState.SUCCEEDED:
        return given_up
    if undone:
        text = f"cancelled; revision {given_up.revision} stays deployed, though its tests have not passed"
        return replace(given_up, state=OperationState.CANCELLED, text=text)
    text = f"revision {given_up.revision} is deployed, but its tests have not ended"
    return replace(given_up, state=OperationState.FAILED, text=text)


async def stop_tests(attempt: Attempt, revision: int | None, *, only_running: bool = False) -> None:
    """Remove the objects of the tests that the operation has started, and wait until their pods have ended.

    ``only_running``: not if Helm has stored how the last of them ended, which may leave its pod on purpose.
    """
    stored = await attempt.read_release(revision) if revision is not None else None
    began, ended = attempt.row.created_at - _CLOCKS, (attempt.row.finished_at or datetime.now(UTC)) + _CLOCKS
    tests = [hook for hook in _tests_of(stored) if began <= _moment(hook) <= ended] if stored is not None else []
    if stored is None or not tests or (only_running and not any(_is_running(hook) for hook in tests)):
        return
    manifests = [hook.manifest for hook in tests]
    state = classify_tested(await attempt.observe(), stored.revision, stored.uid)
    if attempt.decide_by(STOP_CHECK, state) is Step.CLEAN_UP:
        await remove_hook_objects(attempt, stored, manifests, since=began)


async def _run(attempt: Attempt, revision: int | None, uid: str, choice: _Choice, *, begins: bool) -> Outcome:
    """Run the tests of that revision; ``begins``: nothing of the operation was begun before.

    What an interrupted attempt has started goes first, whatever has become of the revision.
    """
    if attempt.row.attempt > 1:
        await stop_tests(attempt, revision)
    snapshot = await attempt.observe()
    newest = snapshot.newest
    step = attempt.decide_by(CHECK, classify_tested(snapshot, revision, uid))
    if newest is None:
        return Outcome(OperationState.FAILED, f"release {attempt.row.release_name!r} no longer exists")
    if step is Step.REFUSE:
        return await failed_by_lock(attempt, newest)
    if step is Step.ABANDON:
        moved = f"revision {newest.revision} was written since, so that revision {revision} was not tested"
        return Outcome(OperationState.FAILED, moved)
    if begins:
        await attempt.begin(snapshot, revision=newest.revision)
    request = RunTestsRequest(
        kubeconfig=attempt.cluster.kubeconfig,
        namespace=attempt.row.namespace,
        release_name=attempt.row.release_name,
        revision=newest.revision,
        include=choice.include,
        exclude=choice.exclude,
        timeout_seconds=attempt.seconds,
    )
    result = await attempt.run(request)
    match attempt.decide_by(AFTER_CHECK, result.status):
        case Step.RETRY:
            return Outcome("retry", result.text)
        case Step.CRASH:
            return Outcome("crashed", result.text)
        case Step.CLEAN_UP:
            await stop_tests(attempt, newest.revision)
    return await _judge(attempt, newest, failure=result.text)


async def _judge(attempt: Attempt, newest: ReleaseLabels, *, failure: str) -> Outcome:
    """Return the outcome, with what was told of each test that began."""
    ran = attempt.followed.tests.tests if attempt.followed.tests is not None else []
    results = [{"kind": hook["kind"], "name": hook["name"], "phase": hook["last_run"]["phase"]} for hook in ran]
    said = ", ".join(f"{hook['name']}: {hook['phase']}" for hook in results)
    events = (Event("tests_run", said, {"tests": results}),) if results else ()
    secret = await attempt.read(newest.revision)
    if failure:
        return Outcome(OperationState.FAILED, failure, secret=secret, events=events)
    text = f"{len(ran)} of {len(ran)} tests passed" if ran else ""
    return Outcome(OperationState.SUCCEEDED, text, secret=secret, events=events)


def _tests_of(stored: StoredRelease) -> Sequence[StoredHook]:
    try:
        return [hook for hook in decode_hooks(stored.hooks_json) if hook.is_test]
    except CorruptRelease:
        return []


def _is_running(hook: StoredHook) -> bool:
    return hook.last_run is not None and hook.last_run.phase == "Running"


def _moment(hook: StoredHook) -> datetime:
    """Return when the test ran last."""
    try:
        moment = datetime.fromisoformat((hook.last_run.started_at if hook.last_run else None) or "")
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

"""Common part of installs, upgrades and rollbacks: each writes a new revision, which tells the outcome.

``worker.state`` classifies the release, ``worker.steps`` decides the next step.
"""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypedDict, TypeVar

import structlog

from pilothouse.engine.protocol import ChangeRequest, PlannedRelease, Wait
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import (
    HelmOptions,
    InstallCommand,
    RollbackCommand,
    UpgradeCommand,
    target_of,
)
from pilothouse.states import Action, OperationState, ReleaseStatus
from pilothouse.store import attempts
from pilothouse.worker.actions.locks import INTERRUPTED, end_interrupted, failed_by_lock
from pilothouse.worker.actions.planned import describe_moved
from pilothouse.worker.actions.post_actions import remove_orphans, restart_workloads, supersede_older
from pilothouse.worker.actions.values import learn_values
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.outcome import EngineResult, Event, Outcome
from pilothouse.worker.state import (
    FINAL,
    SUCCEEDED,
    ReleaseSnapshot,
    ReleaseState,
    classify,
    classify_written,
    is_labelled,
    is_of_earlier_attempt,
    is_written_by,
)
from pilothouse.worker.steps import Step

log = structlog.get_logger(__name__)

#: A request that a killed child had sent can still take effect that long.
SETTLE_SECONDS = 1.0

OrderT = TypeVar("OrderT", bound=InstallCommand | UpgradeCommand | RollbackCommand)


@dataclass(frozen=True)
class Written:
    """A revision that this operation wrote."""

    stored: StoredRelease
    secret: Secret = field(repr=False)


class Target(TypedDict):
    """Fields common to all requests of the engine."""

    kubeconfig: str
    namespace: str
    release_name: str
    wait: Wait
    timeout_seconds: float


class RevisionAction(ABC, Generic[OrderT]):
    """One attempt at an action that writes a revision; each action implements its own part."""

    action: ClassVar[Action]
    hook_events: ClassVar[tuple[str, str]]

    def __init__(self, attempt: Attempt, order: OrderT) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._order = order
        self._goal = target_of(order)

    async def run(self) -> Outcome:
        """Carry out the action, or find that an earlier attempt did."""
        snapshot = await self.observe()
        ours = await self._find_begun(snapshot)
        if ours is None and self._attempt.begun:
            await asyncio.sleep(SETTLE_SECONDS)
            snapshot = await self.observe()
            ours = await self._find_begun(snapshot)
        if ours is not None:
            found = ours.stored.status
            log.info("operation_resumed", operation_id=self._row.id, attempt=self._row.attempt, found=found)
        step = self._attempt.decide(self.action, self._classify(snapshot, ours))
        if ours is not None and step is Step.UNLOCK_AND_ACT:
            if ours.stored.status not in FINAL:
                await end_interrupted(self._attempt, ours.stored)
            again = "" if self._order.disable_hooks else ", including its hooks"
            text = f"attempt {self._row.attempt} re-runs the {self._row.action}{again}"
            await self._attempt.record("action_resumed", text)
            snapshot, ours = await self._attempt.observe(), None
            step = self._attempt.decide(self.action, self._classify(snapshot, None))
        newest = snapshot.newest
        match step:
            case Step.ACT:
                return await self._act(snapshot)
            case Step.COMPLETE if ours is not None:
                return await self._complete(ours, snapshot)
            case Step.REFUSE if newest is not None:
                return await failed_by_lock(self._attempt, newest)
        if newest is None:
            return Outcome(OperationState.FAILED, f"release {self._row.release_name!r} no longer exists")
        text = f"interrupted; revision {newest.revision} was written by another program since"
        return await self._fail(step, ours, text, why=INTERRUPTED)

    async def abandon(self, reason: str) -> Outcome:
        """Give up: unlock our own pending revision and report the failure."""
        snapshot = await self._attempt.observe()
        ours = await self._find_begun(snapshot)
        step = self._attempt.decide(self.action, self._classify(snapshot, ours), giving_up=True)
        if step is Step.RECORD and ours is not None:
            return _recorded(ours)
        return await self._fail(step, ours, reason)

    async def observe(self) -> ReleaseSnapshot:
        """Return the release before the action: all its revisions, or the one that was deployed a moment ago."""
        return await self._attempt.observe_base()

    @abstractmethod
    def request(self, newest: ReleaseLabels | None, chart: bytes) -> ChangeRequest:
        """Return the engine's request; ``chart`` is empty for an action without chart."""

    async def follow_up(self, stored: StoredRelease, snapshot: ReleaseSnapshot) -> tuple[Event, ...]:
        """Do what Helm leaves to its caller once the revision is deployed; may run again.

        After an update the previous revision is superseded, and with ``recreate`` the workloads restart. Helm compares
        with one revision only, an upgrade with the deployed one, a rollback with the newest: objects of a failed one
        before this one, and of the one that it replaced, are deleted here.
        """
        await supersede_older(self._attempt, stored, snapshot)
        before = [candidate for candidate in snapshot.revisions if candidate.revision < stored.revision]
        removed = (
            await remove_orphans(self._attempt, stored, snapshot)
            if before and before[-1].status == ReleaseStatus.FAILED
            else ()
        )
        recreate = not isinstance(self._order, InstallCommand) and self._order.recreate
        return (*removed, *(await restart_workloads(self._attempt, stored) if recreate else ()))

    def _classify(self, snapshot: ReleaseSnapshot, ours: Written | None) -> ReleaseState:
        return classify(snapshot, self._row, ours.stored if ours else None, target=self._goal)

    def _target(self) -> Target:
        return Target(
            kubeconfig=self._attempt.cluster.kubeconfig,
            namespace=self._row.namespace,
            release_name=self._row.release_name,
            wait=self._order.wait,
            timeout_seconds=self._attempt.seconds,
        )

    def _planned(self, newest: ReleaseLabels | None) -> PlannedRelease | None:
        """Return the texts of the next revision, if they were planned."""
        if self._order.planned is None:
            return None
        return self._order.planned.as_release(newest.revision + 1 if newest is not None else 1)

    async def _act(self, snapshot: ReleaseSnapshot) -> Outcome:
        chart = self._attempt.archive
        if chart is None and self.action is not Action.ROLLBACK:
            return Outcome(
                OperationState.FAILED,
                f"chart {self._row.chart_name} {self._row.chart_version} is gone from the database",
            )
        if moved := await describe_moved(self._attempt, self._order, snapshot):
            return Outcome(OperationState.FAILED, moved)
        await learn_values(self._attempt, self._order, snapshot.newest)
        request = self.request(snapshot.newest, chart or b"")
        revision = snapshot.newest.revision + 1 if snapshot.newest is not None else 1
        looking = asyncio.create_task(self._attempt.find_problem(request, revision=revision))
        try:
            await self._attempt.begin(snapshot, revision=revision)
            problem = await looking
        finally:
            looking.cancel()
        if problem is not None:
            return await self._judge(problem, None, snapshot)
        result = await self._attempt.run(request)
        if result.status == "done" and is_labelled(self._row):
            # What has our label and is deployed is so by our last write, however old this look is.
            written = self._if_ours(await self._attempt.read(revision, allow_stale=True))
            if written is not None and written.stored.status in SUCCEEDED:
                return await self._judge(result, written, snapshot)
        if result.status == "done":
            result = EngineResult("done", f"Helm reported success, but stored no revision {revision}")
        if result.status == "taken" and not self._may_be_ours(revision):
            async with self._attempt.context.database.autocommit() as connection:
                await attempts.take_back(connection, self._row)
            return await self._judge(result, None, snapshot)
        return await self._judge(result, await self._find_written(revision, surely=result.status == "done"), snapshot)

    def _may_be_ours(self, taken: int) -> bool:
        """Return whether an earlier attempt can have made the revision that was taken when this one was to make it.

        A label tells whose it is. A rollback has none, and another writer can go back to the same revision.
        """
        return is_labelled(self._row) or (self._attempt.begun and self._row.revision == taken)

    async def _judge(self, result: EngineResult, ours: Written | None, snapshot: ReleaseSnapshot) -> Outcome:
        """Return the outcome from the revision's Secret; the engine's text counts if there is no revision of ours."""
        found = classify_written(self._row, ours.stored if ours else None, self._goal)
        match step := self._attempt.decide_after(result, found):
            case Step.COMPLETE if ours is not None:
                return await self._complete(ours, snapshot)
            case Step.RETRY:
                return Outcome("retry", result.text)
            case Step.CRASH if result.status == "done":
                return Outcome("crashed", "Helm reported success, but its last write was lost")
            case Step.CRASH:
                return Outcome("crashed", result.text)
        return await self._fail(step, ours, result.text)

    async def _find_begun(self, snapshot: ReleaseSnapshot) -> Written | None:
        """Return the revision that an earlier attempt began."""
        if not self._attempt.begun:
            return None
        written = await self._find_written(self._row.revision or 0, snapshot)
        if written is None or not is_of_earlier_attempt(self._row, written.stored, snapshot, self._goal):
            return None
        return written

    async def _find_written(
        self, revision: int, snapshot: ReleaseSnapshot | None = None, *, surely: bool = False
    ) -> Written | None:
        """Return our revision: the one of that number, or a later one if another program took the number.

        ``surely``: Helm said that there is one.
        """
        written, labelled = self._if_ours(await self._attempt.read(revision)), is_labelled(self._row)
        if written is not None or not (labelled or surely):
            return written
        snapshot = snapshot or await self._attempt.observe()
        later = [candidate for candidate in snapshot.revisions if candidate.revision > revision]
        if labelled:
            ours = snapshot.find_labelled(self._row.id, after=revision)
            later = [ours] if ours is not None else []
        for candidate in later:
            written = self._if_ours(await self._attempt.read(candidate.revision))
            if written is not None:
                return written
        return None

    def _if_ours(self, secret: Secret | None) -> Written | None:
        stored = stored_in(secret)
        if secret is None or stored is None or not is_written_by(self._row, stored, self._goal):
            return None
        return Written(stored, secret)

    async def _complete(self, ours: Written, snapshot: ReleaseSnapshot) -> Outcome:
        events = await self.follow_up(ours.stored, snapshot) if ours.stored.status in SUCCEEDED else ()
        left_out = ours.stored.count_hooks(*self.hook_events) if self._order.disable_hooks else 0
        if left_out:
            events = (*events, Event("hooks_not_run", f"{left_out} hooks not run"))
        return _recorded(ours, events=events)

    async def _fail(self, step: Step, ours: Written | None, text: str, *, why: str = "") -> Outcome:
        """Fail without leaving a lock; ``why`` is the revision's description, by default the same text."""
        if ours is None:
            return Outcome(OperationState.FAILED, text)
        secret: Secret | None = ours.secret
        if step is Step.UNLOCK_AND_ABANDON:
            secret = await end_interrupted(self._attempt, ours.stored, why=why or text)
        return Outcome(OperationState.FAILED, text, wrote_revision=True, revision=ours.stored.revision, secret=secret)


def _recorded(ours: Written, *, events: tuple[Event, ...] = ()) -> Outcome:
    return Outcome(
        OperationState.SUCCEEDED if ours.stored.status in SUCCEEDED else OperationState.FAILED,
        ours.stored.description,
        wrote_revision=True,
        revision=ours.stored.revision,
        secret=ours.secret,
        events=events,
    )


def to_prune(options: HelmOptions, newest: ReleaseLabels | None) -> int:
    """Return how many revisions Helm keeps; 0, for no limit, while there cannot be more: it would read them all."""
    limit = options.history_max
    return limit if newest is not None and newest.revision >= limit else 0

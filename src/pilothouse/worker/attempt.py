"""One attempt at an operation: its inputs, what it observed, and the writes it may make.

The Helm engine's answer is a hint; the release's Secrets, before and after, decide. An attempt writes nothing to a
cluster once it knows that it has lost its operation.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from pilothouse.engine.deadline import Fence, boottime
from pilothouse.engine.helm_errors import status_of
from pilothouse.engine.process import ProgressCallback
from pilothouse.engine.protocol import ChangeRequest, InstallRequest, ProgressEvent, UpgradeRequest
from pilothouse.engine.request import Request
from pilothouse.engine.tested import RunTestsOutcome
from pilothouse.errors import (
    Busy,
    EngineCrashed,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    HelmError,
    UnreadableCommand,
)
from pilothouse.kubernetes.client import ClusterClient, Secret
from pilothouse.kubernetes.helm_secrets import StoredRelease, decode_release, unlock
from pilothouse.kubernetes.pods import Pods
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.kubernetes.resources import ManifestObject
from pilothouse.masking_thread import mask
from pilothouse.redaction import Masks
from pilothouse.services.clusters import ClusterConnection
from pilothouse.services.releases.commands import Order, UpgradeCommand, open_order, stand_in
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.deployed import find_last_deployed
from pilothouse.services.releases.preflight import ExpectedRevision
from pilothouse.services.releases.secret_data import without_secret_data
from pilothouse.states import Action, OperationState, ReleaseStatus
from pilothouse.store import attempts, charts, evidence, operation_events, repairs
from pilothouse.store.operations import OperationRow
from pilothouse.worker.known_values import KnownValues
from pilothouse.worker.maintenance.archives import Archives
from pilothouse.worker.outcome import EngineResult, LeaseLost
from pilothouse.worker.progress.events import Progress
from pilothouse.worker.progress.hook_logs import HookLogs
from pilothouse.worker.progress.hook_pods import Followed, HookPods
from pilothouse.worker.progress.wait_status import Waits
from pilothouse.worker.slots import NO_SLOT, Slot
from pilothouse.worker.state import SUCCEEDED, ReleaseSnapshot, ReleaseState, as_undo, version_before
from pilothouse.worker.steps import StateT, Step, Undo, next_step, step_after_call, step_of

log = structlog.get_logger(__name__)

OutcomeT = TypeVar("OutcomeT")

#: Helm ends its own waits at the deadline and stores how far it came; the child is killed only when it does not.
_GRACE_SECONDS = 2.0
_LONGEST_WHY = 2000
_MOST_LEFT = 50
_JUST_NOW = timedelta(seconds=1)
_REPAIR_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class AttemptContext(ReleaseDependencies):
    """Dependencies that all attempts of a worker share."""

    archives: Archives


class Attempt:
    """One attempt that holds its operation under ``fence``, with at most ``seconds`` left.

    Created by ``open_attempt``. Methods that read the cluster raise ClusterUnavailable or ClusterDenied; methods that
    require the operation to be held raise LeaseLost if it is not.
    """

    def __init__(
        self,
        context: AttemptContext,
        row: OperationRow,
        cluster: ClusterConnection,
        archive: bytes | None,
        order: Order,
        *,
        unreadable: str = "",
        fence: Fence,
        seconds: float,
        slot: Slot = NO_SLOT,
    ) -> None:
        """``archive`` is the chart's; None if it is gone or not needed.

        ``unreadable``: why ``order`` only replaces the actual command; then nothing new may be begun. ``slot`` is
        notified when the attempt only waits.
        """
        self.row = row
        self.order = order
        self.unreadable = unreadable
        self.cluster = cluster
        self.archive = archive
        self.known = KnownValues(row, order, kubeconfig=cluster.kubeconfig)
        self._until = boottime() + seconds
        self.settings = context.settings
        self.client: ClusterClient = context.clusters.client(cluster)
        #: What was seen of the hooks that the engine ran.
        self.followed = Followed()
        self.context = context
        self._fence = fence
        self.slot = slot
        #: Whether it may have written to the cluster; the row says it of earlier attempts.
        self.acted = False

    @property
    def seconds(self) -> float:
        """The time that is left; at least the second that an orderly end takes, as 0 would mean no limit to Helm."""
        return max(1.0, self._until - boottime())

    @property
    def begun(self) -> bool:
        """True if an earlier attempt may have written to the cluster."""
        return self.row.last_writing_attempt is not None

    def masks(self) -> Masks:
        """Return the masks for texts about this operation: of its values, of revisions it has read, and credentials."""
        return self.known.masks()

    async def observe(self, *, allow_stale: bool = False) -> ReleaseSnapshot:
        """Return the release's current revisions; ``allow_stale``: the older ones possibly slightly outdated."""
        found = await self.client.list_release_labels(
            namespace=self.row.namespace, name=self.row.release_name, allow_stale=allow_stale
        )
        return ReleaseSnapshot(tuple(sorted(found, key=lambda labels: labels.revision)))

    def is_fresh(self) -> bool:
        """Return True if the API read the release within the last second; reading it again would add nothing."""
        row = self.row
        if row.attempt > 1 or row.state != OperationState.RUNNING or row.started_at is None:
            return False
        return row.started_at - row.created_at < _JUST_NOW

    async def observe_base(self) -> ReleaseSnapshot:
        """Return the deployed revision that the operation is based on, if acceptance just read it; else read all."""
        row = self.row
        if row.base_revision is None or not row.base_uid or not self.is_fresh():
            return await self.observe(allow_stale=not self.begun)
        return ReleaseSnapshot(
            (ReleaseLabels(row.base_revision, ReleaseStatus.DEPLOYED, {}, row.base_uid, row.base_version),)
        )

    async def read(self, revision: int, *, allow_stale: bool = False) -> Secret | None:
        """Return the Secret of one revision; ``allow_stale``: possibly slightly outdated."""
        return await self.client.find_release_secret(
            namespace=self.row.namespace, name=self.row.release_name, revision=revision, allow_stale=allow_stale
        )

    async def read_release(self, revision: int) -> StoredRelease | None:
        """Return the release in the Secret of one revision; from now on no text tells its values."""
        stored = stored_in(await self.read(revision))
        await self.known.learn(stored)
        return stored

    async def find_last_deployed(self, snapshot: ReleaseSnapshot) -> int | None:
        """Return the number of the revision that was deployed last; None if none ever was."""
        succeeded = [revision for revision in snapshot.revisions if revision.status in SUCCEEDED]
        return await find_last_deployed(self.row.release_name, succeeded, self.read_release)

    async def find_absence(self, *, seen_at: str = "") -> int | None:
        """Return the resourceVersion at which the release has no Secret; None if it has one."""
        return await self.client.find_absence(namespace=self.row.namespace, name=self.row.release_name, seen_at=seen_at)

    async def read_chart(self) -> bytes | None:
        """Return the archive of the chart that the release was last made from here; None if unknown or gone."""
        if self.archive is not None or not self.row.chart_id:
            return self.archive
        async with self.context.database.autocommit() as connection:
            chart = await charts.find_chart(connection, self.row.chart_id, project_id=self.row.project_id)
        return await self.context.archives.read(chart.digest) if chart is not None else None

    async def begin(self, snapshot: ReleaseSnapshot, *, revision: int) -> None:
        """Commit what was observed and what is going to be written, so that a later attempt knows what is ours.

        Returns when no repair is running on the release.
        """
        self.check_held()
        newest, which = snapshot.newest, {"attempt": self.row.attempt, "revision": revision}
        # known from the first attempt on: later ones see what that left
        is_first = self.row.state != OperationState.CANCELLING and not self.begun
        deployed = await self.find_last_deployed(snapshot) if is_first else None
        base = attempts.Base(newest.revision, newest.uid, version_before(self.row, newest)) if newest else None
        async with self.context.database.autocommit() as connection:
            if self.row.state != OperationState.CANCELLING:
                begun = await attempts.begin(connection, self.row.id, base=base, deployed=deployed, **which)
            else:
                begun = (
                    await attempts.begin_undo(connection, self.row.id, base=base, **which) if base is not None else None
                )
        if begun is None:
            raise LeaseLost
        self.acted = True
        while begun.during_repair:
            await asyncio.sleep(_REPAIR_LOOK_SECONDS)
            self.check_held()
            async with self.context.database.autocommit() as connection:
                begun = attempts.Begun(during_repair=await repairs.is_being_repaired(connection, self.row.id))

    async def remember_objects(self, objects: Sequence[ManifestObject]) -> None:
        """Commit what is about to be uninstalled, for the repair: no Secret will list it any more."""
        texts = json.dumps([(obj.api_version, obj.kind, obj.namespace, obj.name) for obj in objects])
        async with self.context.database.transaction() as tx:
            await repairs.remember_objects(tx, self.row.id, objects=texts)

    def undoing(self) -> "Attempt":
        """Return the attempt as seen by the rollback that undoes its operation; it keeps its slot while it waits."""
        attempt = copy(self)
        attempt.row, attempt.archive, attempt.slot = as_undo(self.row), None, NO_SLOT
        return attempt

    async def find_problem(self, request: Request[Any], *, revision: int) -> EngineResult | None:
        """Return why the request must not be carried out; None if there is no problem. Nothing is written."""
        if not isinstance(request, InstallRequest | UpgradeRequest):
            return None  # a rollback was checked when it was ordered
        values = request.values if isinstance(request, InstallRequest) else self.order.merged_values
        owns = isinstance(self.order, UpgradeCommand) and self.order.owns_namespace
        try:
            expected = ExpectedRevision(revision, values, owns)
            text = await self.context.preflight.find_problem(self._ask, self.client, request, expected)
        except EngineError as error:
            return await self._result_of(error, request)
        return EngineResult("refused", await mask(self.masks(), text)) if text is not None else None

    async def run(self, request: ChangeRequest) -> EngineResult:
        """Call the engine once and return the result; hooks are followed while they run."""
        self.check_held()
        seconds = self.seconds + _GRACE_SECONDS
        hooks, failed = HookPods(self.connect_pods, self.followed, HookLogs(self), seconds=seconds), None
        try:
            failed = (result := await self._call(request, hooks)).status != "done"
            return result
        finally:
            await hooks.close(failed=failed)

    def connect_pods(self) -> Pods:
        """Open more connections to the cluster, which the caller closes."""
        return Pods(self.cluster.kubeconfig, self.settings.cluster, look_up=self.client.look_up)

    async def _call(self, request: ChangeRequest, hooks: HookPods) -> EngineResult:
        left: list[str] = []
        try:
            async with Progress(self.record, Waits(self.client).look) as progress:

                def notice(event: ProgressEvent) -> None:
                    self.slot.notice(event.phase)
                    if event.phase == "left":
                        left.append(event.message)
                        return
                    if event.phase != "render" or isinstance(request, InstallRequest | UpgradeRequest):
                        progress(event)
                    hooks.notice(event)

                # Helm's own limit counts from now: it ends by itself, and says how far it came, before it is stopped
                timed: Request[Any] = replace(request, timeout_seconds=self.seconds)
                outcome = await self._ask(timed, on_progress=notice)
                if isinstance(outcome, RunTestsOutcome):
                    self.followed.tests = outcome
                    outcome.raise_failure()
        except EngineError as error:
            return await self._result_of(error, request)
        finally:
            self.slot.work()
            for text in left[:_MOST_LEFT]:
                await self.record("object_left", text)
        return EngineResult("done")

    async def _ask(self, request: Request[OutcomeT], on_progress: ProgressCallback | None = None) -> OutcomeT:
        """Send the request with the remaining time as its deadline, and as the wait for a free child."""
        try:
            return await self.context.engine.run(
                request,
                deadline_seconds=self.seconds + _GRACE_SECONDS,
                queue_seconds=self.seconds,
                project=self.cluster.project_id,
                fence=self._fence,
                on_progress=on_progress,
                masks=self.masks(),
            )
        except Busy as error:
            raise EngineUnavailable(str(error)) from error

    async def _result_of(self, error: EngineError, request: Request[Any]) -> EngineResult:
        match error:
            case HelmError() if (status := status_of(error)) != "refused":
                return EngineResult(status, str(error))
            case HelmError():
                text = await self.context.preflight.explain(self.client, error, getattr(request, "layers", ()))
                return EngineResult("refused", await self._without_secrets(text, request))
            case EngineUnavailable():
                return EngineResult("unavailable", str(error))
            case EngineTimeout():
                self.check_held()
                limit = self.row.deadline_seconds
                if self.row.state == OperationState.CANCELLING:
                    limit = int(self.settings.worker.undo_timeout_seconds)
                return EngineResult("stopped", f"timed out after {limit} s; the engine was stopped")
            case EngineCrashed():
                self.check_held()
                log.warning("engine_crashed", operation_id=self.row.id, cause=str(error), stderr=error.stderr_tail)
                return EngineResult("crashed", str(error))
        raise error

    async def unlock(self, stored: StoredRelease, *, why: str) -> Secret | None:
        """Turn a locked revision of ours into a failed one permanently; return the Secret after that.

        ``why`` becomes the release's status description.
        """
        secret = await self.read(stored.revision)
        self.check_held()
        if secret is not None and secret["metadata"].get("uid") == stored.uid:
            by = f"operation {self.row.id}"
            if not await unlock(self.client, secret, reason=by, why=why[:_LONGEST_WHY]):
                # a last write of the dead writer came in between, or it is not locked at all
                secret = await self.read(stored.revision)
                if secret is not None and secret["metadata"].get("uid") == stored.uid:
                    await unlock(self.client, secret, reason=by, why=why[:_LONGEST_WHY])
            log.info("release_unlocked", operation_id=self.row.id, revision=stored.revision)
            secret = await self.read(stored.revision)
        return secret

    async def record(self, kind: str, text: str, data: dict[str, Any] | None = None) -> None:
        """Add an event to the operation, with secrets masked."""
        text = await mask(self.masks(), text)
        row = self.row
        async with self.context.database.autocommit() as connection:
            await operation_events.add_event(connection, row.id, attempt=row.attempt, kind=kind, text=text, data=data)

    async def keep_evidence(self, found: str) -> None:
        """Store the evidence of the failed attempt: the JSON object of ``evidence.collect``."""
        async with self.context.database.autocommit() as connection:
            await evidence.add_evidence(connection, self.row.id, attempt=self.row.attempt, found=found)

    async def _without_secrets(self, text: str, request: Request[Any]) -> str:
        if isinstance(request, InstallRequest | UpgradeRequest):
            limits = self.settings.charts
            text = await without_secret_data(text, chart=request.chart, client=self.client, limits=limits)
        return await mask(self.masks(), text)

    def decide(
        self, task: Action | Undo, state: ReleaseState, *, giving_up: bool = False, can_restore: bool = True
    ) -> Step:
        """Return the next step for a release in that state; raise LeaseLost if the attempt may not write any more."""
        held = not self._fence.passed
        return self._unless_lost(next_step(task, state, giving_up=giving_up, can_restore=can_restore, held=held))

    def decide_after(self, result: EngineResult, written: ReleaseState) -> Step:
        """Return the same after a call of the engine that ended like that."""
        return self._unless_lost(step_after_call(result.status, written, held=not self._fence.passed))

    def decide_by(self, table: Mapping[StateT, Step], state: StateT) -> Step:
        """Return the same where the state alone decides."""
        return self._unless_lost(step_of(table, state, held=not self._fence.passed))

    def _unless_lost(self, step: Step) -> Step:
        if step is Step.STOP:
            raise LeaseLost
        return step

    def check_held(self) -> None:
        """Raise LeaseLost if the time has passed in which the attempt may write."""
        if self._fence.passed:
            raise LeaseLost


async def open_attempt(
    context: AttemptContext, row: OperationRow, *, fence: Fence, seconds: float, slot: Slot = NO_SLOT
) -> Attempt:
    """Open the attempt at this operation; raise NotFound if its cluster was removed."""
    cluster, archive = await asyncio.gather(
        context.clusters.reach(row.cluster_id, project_id=None), context.archives.read(row.chart_digest)
    )
    try:
        order, unreadable = open_order(row, keys=context.keys), ""
    except UnreadableCommand as error:
        order, unreadable = stand_in(row.action), str(error)
    attempt = Attempt(
        context, row, cluster, archive, order, unreadable=unreadable, fence=fence, seconds=seconds, slot=slot
    )
    await attempt.known.prepare()
    return attempt


def stored_in(secret: Secret | None) -> StoredRelease | None:
    """Return the release in the Secret; None without one."""
    return decode_release(secret) if secret is not None else None

"""One attempt at an operation: what it works on, what it sees, and the few things that it may do.

What Helm's engine answers is a hint. What counts is what the release's Secrets say, before and after. Nothing is
written to a cluster by an attempt that no longer holds its operation, as far as it can know that.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.engine.deadline import Fence, boottime
from pilothouse.engine.helm_errors import is_unreachable
from pilothouse.engine.pool import EnginePool
from pilothouse.engine.process import ProgressCallback
from pilothouse.engine.protocol import ChangeRequest, InstallRequest, ProgressEvent, Request, UpgradeRequest
from pilothouse.errors import (
    Busy,
    EngineCrashed,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    HelmError,
    UnreadableCommand,
)
from pilothouse.kubernetes.client import ClusterClient, ReleaseLabels, Secret
from pilothouse.kubernetes.helm_secrets import StoredRelease, decode_release, unlock
from pilothouse.kubernetes.pods import Pods
from pilothouse.kubernetes.resources import ManifestObject
from pilothouse.masking_thread import in_masking_thread, mask
from pilothouse.redaction import Masks, masks_of
from pilothouse.services.clusters import ClusterConnection, Clusters
from pilothouse.services.releases.commands import Order, UpgradeCommand, open_order, stand_in
from pilothouse.services.releases.preflight import Preflight
from pilothouse.services.releases.secret_data import without_secret_data
from pilothouse.settings import Settings
from pilothouse.states import Action, OperationState, ReleaseStatus
from pilothouse.store import attempts, charts, evidence, operation_events, repairs
from pilothouse.store.database import Database
from pilothouse.store.operations import OperationRow
from pilothouse.worker.maintenance.archives import Archives
from pilothouse.worker.outcome import EngineResult, LeaseLost
from pilothouse.worker.places import OF_NOBODY, Place
from pilothouse.worker.progress.events import Progress
from pilothouse.worker.progress.hook_pods import Followed, HookPods
from pilothouse.worker.progress.wait_status import Waits
from pilothouse.worker.state import ReleaseSnapshot, ReleaseState, Step, next_step, step_after_call

log = structlog.get_logger(__name__)

OutcomeT = TypeVar("OutcomeT")

#: Helm ends its own waits at the deadline and stores how far it came; the child is killed only when it does not.
_GRACE_SECONDS = 2.0
_LONGEST_WHY = 2000
_MOST_LEFT = 50
_JUST_NOW = timedelta(seconds=1)
_REPAIR_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class AttemptContext:
    """What every attempt of a worker shares."""

    database: Database
    archives: Archives
    keys: MasterKeys
    clusters: Clusters
    engine: EnginePool
    preflight: Preflight
    settings: Settings


class Attempt:
    """One attempt that holds its operation under ``fence``, with at most ``seconds`` left.

    Made by ``open_attempt``. Whatever asks the cluster raises ClusterUnavailable or ClusterDenied; whatever needs the
    operation to be held raises LeaseLost when it is not.
    """

    def __init__(
        self,
        workshop: AttemptContext,
        row: OperationRow,
        cluster: ClusterConnection,
        archive: bytes | None,
        order: Order,
        *,
        unreadable: str = "",
        fence: Fence,
        seconds: float,
        place: Place = OF_NOBODY,
    ) -> None:
        """``archive`` is the chart's; None when it is gone or none is needed.

        ``unreadable``: why ``order`` only stands in for what was ordered; then nothing new may be begun. ``place`` is
        told when it only waits.
        """
        self.row = row
        self.order = order
        self.unreadable = unreadable
        self.cluster = cluster
        self.archive = archive
        self._masks: Masks | None = None
        self._until = boottime() + seconds
        self.settings = workshop.settings
        self.client: ClusterClient = workshop.clusters.client(cluster)
        #: What was seen of the hooks that the engine ran.
        self.followed = Followed()
        self._workshop = workshop
        self._fence = fence
        self._place = place

    @property
    def seconds(self) -> float:
        """What is left of its time; at least the second that an ordered end takes, for 0 would be no limit to Helm."""
        return max(1.0, self._until - boottime())

    @property
    def begun(self) -> bool:
        """Whether an earlier attempt may have written to the cluster."""
        return self.row.last_writing_attempt is not None

    def masks(self) -> Masks:
        """Return what no text about this operation may hold: values that were ordered or come of them, and credentials.

        Made once: the automaton that finds many values takes tens of milliseconds to build.
        """
        if self._masks is None:
            self._masks = masks_of(
                values=getattr(self.order, "values", None),
                merged_values=self.order.merged_values,
                kubeconfig=self.cluster.kubeconfig,
                public=(self.row.namespace, self.row.release_name, self.row.chart_name, self.row.chart_version),
            )
        return self._masks

    def prepare_masks(self) -> None:
        """Make them now; many values take a tenth of a second, beside the event loop."""
        self.masks().prepare()

    async def observe(self) -> ReleaseSnapshot:
        """The release's revisions now; one request."""
        found = await self.client.list_release_labels(namespace=self.row.namespace, name=self.row.release_name)
        return ReleaseSnapshot(tuple(sorted(found, key=lambda one: one.revision)))

    def is_fresh(self) -> bool:
        """Whether the acceptance looked at the release just now: a look of our own would hardly tell more."""
        row = self.row
        if row.attempt > 1 or row.state != OperationState.RUNNING or row.started_at is None:
            return False
        return row.started_at - row.created_at < _JUST_NOW

    async def observe_base(self) -> ReleaseSnapshot:
        """The deployed revision on which the operation is based, as the acceptance saw it just now; else a look."""
        row = self.row
        if row.base_revision is None or not row.base_uid or not self.is_fresh():
            return await self.observe()
        return ReleaseSnapshot(
            (ReleaseLabels(row.base_revision, ReleaseStatus.DEPLOYED, {}, row.base_uid, row.base_version),)
        )

    async def read(self, revision: int, *, allow_stale: bool = False) -> Secret | None:
        """The Secret of one revision; ``allow_stale``: or as it was a moment ago."""
        return await self.client.find_release_secret(
            namespace=self.row.namespace, name=self.row.release_name, revision=revision, allow_stale=allow_stale
        )

    async def find_absence(self) -> int | None:
        """The resourceVersion at which the release has no Secret; None if it has one."""
        return await self.client.find_absence(namespace=self.row.namespace, name=self.row.release_name)

    async def read_chart(self) -> bytes | None:
        """The archive of the chart that the release was last made from here; None if it is not known, or gone."""
        if self.archive is not None or not self.row.chart_id:
            return self.archive
        async with self._workshop.database.autocommit() as connection:
            chart = await charts.find_chart(connection, self.row.chart_id, project_id=self.row.project_id)
        return await self._workshop.archives.read(chart.digest) if chart is not None else None

    async def begin(self, seen: ReleaseSnapshot, *, revision: int) -> None:
        """Commits what was seen and what is going to be written: by that a later attempt knows what is ours.

        Returns when no repair is at work on the release.
        """
        self.check_held()
        newest, which = seen.newest, {"attempt": self.row.attempt, "revision": revision}
        base = attempts.Base(newest.revision, newest.uid, newest.resource_version) if newest is not None else None
        async with self._workshop.database.autocommit() as connection:
            if self.row.state != OperationState.CANCELLING:
                begun = await attempts.begin(connection, self.row.id, base=base, deployed=seen.last_deployed, **which)
            else:
                begun = (
                    await attempts.begin_undo(connection, self.row.id, base=base, **which) if base is not None else None
                )
        if begun is None:
            raise LeaseLost
        while begun.during_repair:
            await asyncio.sleep(_REPAIR_LOOK_SECONDS)
            self.check_held()
            async with self._workshop.database.autocommit() as connection:
                begun = attempts.Begun(during_repair=await repairs.is_being_repaired(connection, self.row.id))

    async def remember_objects(self, objects: Sequence[ManifestObject]) -> None:
        """Commits what is about to be uninstalled, for the repair: no Secret will tell it any more."""
        texts = json.dumps([(one.api_version, one.kind, one.namespace, one.name) for one in objects])
        async with self._workshop.database.transaction() as tx:
            await repairs.remember_objects(tx, self.row.id, objects=texts)

    def undoing(self) -> "Attempt":
        """The attempt as the rollback sees it that undoes its operation: begun is what the undo has begun."""
        row, begun = self.row, self.row.undo_revision is not None
        row = replace(
            row,
            action=Action.ROLLBACK,
            revision=row.undo_revision,
            last_writing_attempt=row.attempt if begun else None,
        )
        attempt = Attempt(
            *(self._workshop, row, self.cluster, None, self.order),
            unreadable=self.unreadable,
            fence=self._fence,
            seconds=self.seconds,
        )
        attempt.followed = self.followed
        attempt._masks = self._masks
        return attempt

    async def find_problem(self, request: Request[Any], *, revision: int) -> EngineResult | None:
        """Why the request is not to be carried out; None if nothing speaks against it. Nothing is written."""
        if not isinstance(request, InstallRequest | UpgradeRequest):
            return None  # a rollback was checked when it was ordered
        values = request.values if isinstance(request, InstallRequest) else self.order.merged_values
        owns = isinstance(self.order, UpgradeCommand) and self.order.owns_namespace
        try:
            text = await self._workshop.preflight.find_problem(
                self._ask, self.client, request, revision=revision, merged_values=values, owns_namespace=owns
            )
        except EngineError as error:
            return await self._said(error, request)
        return EngineResult("refused", await mask(self.masks(), text)) if text is not None else None

    async def run(self, request: ChangeRequest) -> EngineResult:
        """One call of the engine, and how it ended; the hooks that it runs are followed."""
        hooks = HookPods(self.connect_pods, self.followed, seconds=self.seconds + _GRACE_SECONDS)
        failed = False
        try:
            said = await self._call(request, hooks)
            failed = said.how != "done"
            return said
        finally:
            await hooks.close(failed=failed)

    def connect_pods(self) -> Pods:
        """Further connections to the cluster, which the caller closes."""
        return Pods(self.cluster.kubeconfig, self.settings.cluster, look_up=self.client.look_up)

    async def _call(self, request: ChangeRequest, hooks: HookPods) -> EngineResult:
        left: list[str] = []
        try:
            async with Progress(self.record, Waits(self.client).look) as progress:

                def notice(event: ProgressEvent) -> None:
                    self._place.notice(event.phase)
                    if event.phase == "left":
                        left.append(event.message)
                        return
                    if event.phase != "render" or isinstance(request, InstallRequest | UpgradeRequest):
                        progress(event)
                    hooks.notice(event)

                # Helm's own limit counts from now: it ends by itself, and says how far it came, before it is stopped
                timed: Request[Any] = replace(request, timeout_seconds=self.seconds)
                await self._ask(timed, on_progress=notice)
        except EngineError as error:
            return await self._said(error, request)
        finally:
            self._place.work()
            for text in left[:_MOST_LEFT]:
                await self.record("object_left", text)
        return EngineResult("done")

    async def _ask(self, request: Request[OutcomeT], on_progress: ProgressCallback | None = None) -> OutcomeT:
        """With the time that is left for the call, and no longer for a child of the engine to become free."""
        try:
            return await self._workshop.engine.run(
                request,
                deadline_seconds=self.seconds + _GRACE_SECONDS,
                queue_seconds=self.seconds,
                project=self.cluster.project_id,
                fence=self._fence,
                on_progress=on_progress,
            )
        except Busy as error:
            raise EngineUnavailable(str(error)) from error

    async def _said(self, error: EngineError, request: Request[Any]) -> EngineResult:
        match error:
            case HelmError() if is_unreachable(error):
                return EngineResult("unreachable", str(error))
            case HelmError():
                text = await self._workshop.preflight.explain(self.client, error)
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
        """Turns a revision of ours that its writer left locked into a failed one for good; the Secret after that.

        ``why`` is what the release's status says from then on.
        """
        secret = await self.read(stored.revision)
        self.check_held()
        if secret is not None and secret["metadata"].get("uid") == stored.uid:
            by = f"operation {self.row.id}, attempt {self.row.attempt}"
            if not await unlock(self.client, secret, reason=by, why=why[:_LONGEST_WHY]):
                # a last write of the dead writer came in between, or it is not locked at all
                secret = await self.read(stored.revision)
                if secret is not None and secret["metadata"].get("uid") == stored.uid:
                    await unlock(self.client, secret, reason=by, why=why[:_LONGEST_WHY])
            log.info("release_unlocked", operation_id=self.row.id, revision=stored.revision)
            secret = await self.read(stored.revision)
        return secret

    async def record(self, kind: str, said: str, data: dict[str, Any] | None = None) -> None:
        """Adds an event to the operation, without secrets."""
        said = await mask(self.masks(), said)
        async with self._workshop.database.autocommit() as connection:
            await operation_events.add_event(
                connection, self.row.id, attempt=self.row.attempt, kind=kind, said=said, data=data
            )

    async def keep_evidence(self, found: str) -> None:
        """Keeps with the operation what was found when the attempt failed; the JSON object of ``evidence.collect``."""
        async with self._workshop.database.autocommit() as connection:
            await evidence.add_evidence(connection, self.row.id, attempt=self.row.attempt, found=found)

    async def _without_secrets(self, text: str, request: Request[Any]) -> str:
        if isinstance(request, InstallRequest | UpgradeRequest):
            limits = self.settings.charts
            text = await without_secret_data(text, chart=request.chart, client=self.client, limits=limits)
        return await mask(self.masks(), text)

    def decide(self, action: Action, state: ReleaseState, *, giving_up: bool = False) -> Step:
        """Return what to do about a release in that state; raise LeaseLost for what it may not write any more."""
        return self._unless_lost(next_step(action, state, giving_up=giving_up, held=not self._fence.passed))

    def decide_after(self, said: EngineResult, written: ReleaseState) -> Step:
        """Return the same after a call of the engine that ended like that."""
        return self._unless_lost(step_after_call(said.how, written, held=not self._fence.passed))

    def _unless_lost(self, step: Step) -> Step:
        if step is Step.STOP:
            raise LeaseLost
        return step

    def check_held(self) -> None:
        """LeaseLost when the time has passed in which the attempt may write."""
        if self._fence.passed:
            raise LeaseLost


async def open_attempt(
    workshop: AttemptContext, row: OperationRow, *, fence: Fence, seconds: float, place: Place = OF_NOBODY
) -> Attempt:
    """The attempt at this operation; NotFound when its cluster was removed."""
    cluster, archive = await asyncio.gather(
        workshop.clusters.reach(row.cluster_id, project_id=None), _read_archive(workshop, row)
    )
    unreadable = ""
    try:
        order = open_order(row, keys=workshop.keys)
    except UnreadableCommand as error:
        order, unreadable = stand_in(row.action), str(error)
    attempt = Attempt(
        workshop, row, cluster, archive, order, unreadable=unreadable, fence=fence, seconds=seconds, place=place
    )
    await in_masking_thread(attempt.prepare_masks)
    return attempt


async def _read_archive(workshop: AttemptContext, row: OperationRow) -> bytes | None:
    return await workshop.archives.read(row.chart_digest) if row.chart_digest is not None else None


def stored_in(secret: Secret | None) -> StoredRelease | None:
    """The release in the Secret; None without one."""
    return decode_release(secret) if secret is not None else None

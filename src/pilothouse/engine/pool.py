"""The parent's side of the engine: one warm child, others while needed, and guarantees about each call.

A call runs exclusively in one child and ends at its deadline at the latest, whatever the chart does. A call that finds
every child busy gets a new one (0.2 s), up to the pool's size, which ends after a long idle time. A child that died,
was killed or is worn out is replaced without the caller's help; a worn-out one keeps serving until the new one is warm.
If children cannot be started at all, callers get the reason at once, and starting is retried at growing intervals.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog

from pilothouse.engine import phases
from pilothouse.engine.connections import SocketAddress
from pilothouse.engine.deadline import Fence
from pilothouse.engine.environment import PoolFolder
from pilothouse.engine.masked_errors import mask_error
from pilothouse.engine.process import ChildLimits, ChildProcess, ProgressCallback
from pilothouse.engine.protocol import ProgressEvent
from pilothouse.engine.request import Request
from pilothouse.engine.spawn import spawn_child
from pilothouse.errors import Busy, EngineError, EngineUnavailable
from pilothouse.metrics import ENGINE_CHILDREN, ENGINE_EXITS
from pilothouse.redaction import Masks
from pilothouse.settings import ChartLimits, EngineSettings
from pilothouse.shares import FairSlots

log = structlog.get_logger(__name__)

OutcomeT = TypeVar("OutcomeT")

#: The addresses at which a kubeconfig's server may be reached, looked up for a project; raises what the caller of
#: ``run`` shall see.
Route = Callable[[str, str], Awaitable[Sequence[SocketAddress]]]

_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 30.0


class EnginePool:
    """Children that answer engine requests, one at a time each; belongs to one event loop.

    The loop's thread must live as long as the process: children die with the thread that spawned them.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        state_dir: Path,
        charts: ChartLimits | None = None,
        route: Route | None = None,
        most_waiting: int = 0,
    ) -> None:
        """``state_dir`` may be shared by pools of several processes; each creates a private folder in it.

        Children are connected to the addresses that ``route`` returns; without it, they reach no cluster. In addition
        to the children whose calls only wait for their cluster (at most ``most_waiting``), others are started when
        needed.
        """
        self._settings = settings
        self._route = route
        self._limits = ChildLimits(
            memory_bytes=settings.memory_bytes,
            cpu_seconds=settings.cpu_seconds,
            charts=charts or ChartLimits(),
            qps=settings.qps,
            burst=settings.burst,
            parallel_objects=settings.parallel_objects,
        )
        self._state_dir = state_dir
        self._folder: PoolFolder | None = None
        self._children: set[ChildProcess] = set()
        # children whose successor is being made, and those of them whose successor is there
        self._replaced: set[ChildProcess] = set()
        self._retired: set[ChildProcess] = set()
        self._most_waiting = most_waiting
        self._resting: set[ChildProcess] = set()
        self._adding = 0
        #: Those without a call, the longest idle first.
        self._idle: deque[ChildProcess] = deque()
        self._shrinking: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[ChildProcess]] = deque()
        self._starts: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self._start_failure: EngineUnavailable | None = None
        self._slots = FairSlots(
            settings.children,
            what="every Helm engine of this server is busy",
            most_waiting=settings.waiting_per_project,
        )
        # Who broke a child keeps its place until there is another: else the next call takes the other children, too.
        self._owed: deque[str] = deque()

    async def start(self) -> None:
        """Start the first child; raise EngineUnavailable with the reason if it does not start.

        It is tried twice: the first may have been killed, and a general obstacle stops the second, too.
        """
        self._folder = folder = PoolFolder(self._state_dir)
        try:
            try:
                await self._spawn(folder)
            except (EngineUnavailable, OSError) as error:
                log.warning("engine_child_start_failed", reason=str(error))
                await self._spawn(folder)
        except BaseException as error:
            await self.close()
            if isinstance(error, OSError):
                raise _unavailable(error) from error
            raise
        self._grow()

    async def close(self) -> None:
        """Kill every child and remove every file of the pool; calls in progress fail with EngineCrashed."""
        folder, self._folder = self._folder, None
        if self._shrinking is not None:
            self._shrinking.cancel()
        for task in self._starts:
            task.cancel()
        await asyncio.gather(*self._starts, return_exceptions=True)
        children, self._children = self._children, set()
        self._idle.clear()
        await asyncio.gather(*(child.end() for child in children), *self._ends)
        self._fail_waiters(EngineUnavailable("the engine was shut down"))
        if folder is not None:
            folder.remove()

    @property
    def versions(self) -> dict[str, str]:
        """The versions reported by a live child; empty without one."""
        return next((dict(child.versions) for child in self._children), {})

    async def run(
        self,
        request: Request[OutcomeT],
        *,
        deadline_seconds: float,
        queue_seconds: float | None = None,
        share: str | None = None,
        project: str = "",
        fence: Fence | None = None,
        on_progress: ProgressCallback | None = None,
        masks: Masks | None = None,
    ) -> OutcomeT:
        """Return the outcome of ``request``, after at most ``queue_seconds`` plus ``deadline_seconds``.

        ``queue_seconds`` is the wait for a child; None: indefinitely. Callers of one ``share`` never hold every child,
        and take turns with those of other shares; None takes part in no turns. ``project`` is the cluster's owner; by
        default the share. ``fence`` can shorten the call from any thread; ``on_progress`` is called in the event loop
        and must not block. ``masks``: of the request's values and credentials, if the caller has them. Cancelling the
        calling task kills the child at once. Raises Busy (no child became free), EngineUnavailable (none can be
        started) and what ``route`` raises, all before anything was done; HelmError (Helm's answer, final);
        EngineTimeout (killed at the deadline or by the fence) and EngineCrashed, after which the cluster has to be
        checked.
        """
        kubeconfig = getattr(request, "kubeconfig", "")
        addresses = (
            await self._route(kubeconfig, project or share or "") if self._route is not None and kubeconfig else ()
        )
        async with self._child(share, queue_seconds, cluster=hash(kubeconfig) if kubeconfig else None) as child:
            try:
                return await child.call(
                    request,
                    addresses=addresses,
                    deadline_seconds=deadline_seconds,
                    fence=fence,
                    on_progress=on_progress and self._watching(child, on_progress),
                )
            except EngineError as error:
                await mask_error(error, request, masks)
                raise

    @asynccontextmanager
    async def _child(
        self, share: str | None, queue_seconds: float | None, *, cluster: int | None
    ) -> AsyncIterator[ChildProcess]:
        until = None if queue_seconds is None else time.monotonic() + queue_seconds
        broken = False
        if share is not None:
            await self._slots.acquire(share, seconds=queue_seconds)
        try:
            child = await self._take(None if until is None else max(0.0, until - time.monotonic()), cluster)
            if cluster is not None:
                if cluster in child.clusters:
                    child.clusters.remove(cluster)
                child.clusters.append(cluster)
            try:
                yield child
            finally:
                self._resting.discard(child)
                self._put_back(child)
                # one that was replaced has its successor already, for which nobody waits
                broken = not child.usable and not child.replaced
        finally:
            if share is not None:
                self._owed.append(share)
                if not broken or sum(other.usable for other in self._children) >= self._settings.children:
                    self._slots.release(self._owed.pop())

    def _release_owed(self, most: int) -> None:
        for _ in range(min(most, len(self._owed))):
            self._slots.release(self._owed.popleft())

    async def _take(self, queue_seconds: float | None, cluster: int | None) -> ChildProcess:
        if self._folder is None:
            raise EngineUnavailable("the engine is not running")
        if self._start_failure is not None and not self._children:
            raise _copy(self._start_failure)
        idle = [child for child in self._idle if child.usable]
        if idle:
            # One that knows the cluster need not connect and discover; else the one with the least to forget.
            child = next((candidate for candidate in idle if cluster in candidate.clusters), None)
            child = child or min(idle, key=lambda candidate: len(candidate.clusters))
            self._idle.remove(child)
            return child
        waiter: asyncio.Future[ChildProcess] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._grow()
        try:
            async with asyncio.timeout(queue_seconds):
                return await waiter
        except TimeoutError:
            self._leave(waiter)
            raise Busy("every Helm engine of this server is busy; retry shortly") from None
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: "asyncio.Future[ChildProcess]") -> None:
        """Stop waiting; a child that was handed over at the same moment goes to the next in line."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self._put_back(waiter.result())

    def _put_back(self, child: ChildProcess) -> None:
        if not child.usable or child not in self._children:
            return
        if child in self._retired:
            child.kill()
            return
        if child.bloated:
            log.info("engine_child_bloated", pid=child.pid, calls=child.calls)
            child.kill()
            return
        if child.calls >= self._settings.recycle_after and child not in self._replaced:
            self._replaced.add(child)
            self._in_background(self._replace(child), self._starts)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(child)
                return
        child.idle_since = time.monotonic()
        self._idle.append(child)
        if self._shrinking is None:
            self._shrink()

    def _watching(self, child: ChildProcess, on_progress: ProgressCallback) -> ProgressCallback:
        """Return a callback that forwards reports and records whether the child only waits."""

        def watch(event: ProgressEvent) -> None:
            if event.phase in phases.WAITING:
                self._resting.add(child)
                self._grow()
            elif event.phase in phases.WORKING:
                self._resting.discard(child)
            on_progress(event)

        return watch

    @property
    def _standing(self) -> int:
        """The number of children that serve, or will."""
        return len(self._children) - len(self._retired) + self._adding

    def _grow(self) -> None:
        """Start a child for each call that has none, up to the pool's size plus those that wait for their cluster.

        The first child starts alone: calls may wait for it already, and others would take its CPU.
        """
        if self._folder is None or not self._children:
            return
        without = sum(not waiter.done() for waiter in self._waiters) - self._adding
        most = self._settings.children + min(len(self._resting), self._most_waiting)
        for _ in range(min(without, most - self._standing)):
            self._add()

    def _shrink(self) -> None:
        """End the children that were idle for long, but not the last one that is."""
        self._shrinking = None
        now, seconds = time.monotonic(), self._settings.idle_seconds
        while len(self._idle) > 1:
            left = self._idle[0].idle_since + seconds - now
            if left > 0:
                self._shrinking = asyncio.get_running_loop().call_later(left, self._shrink)
                return
            child = self._idle.popleft()
            self._retired.add(child)
            child.kill()

    async def _spawn(self, folder: PoolFolder) -> None:
        child = await spawn_child(folder.make_child_folder(), self._limits)
        self._start_failure = None
        self._children.add(child)
        ENGINE_CHILDREN.inc()
        child.exited.add_done_callback(lambda _: self._lost(child))
        self._put_back(child)
        self._release_owed(1)

    def _add(self) -> None:
        """Start a child in the background; what keeps it from starting is tried again until it does."""
        self._adding += 1
        self._in_background(self._spawn_until_it_works(), self._starts).add_done_callback(self._added)

    def _added(self, _: "asyncio.Task[None]") -> None:
        self._adding -= 1
        self._grow()

    async def _spawn_until_it_works(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        while self._folder is not None:
            try:
                await self._spawn(self._folder)
            except (EngineUnavailable, OSError) as error:
                failure = _unavailable(error)
                log.warning("engine_child_start_failed", reason=str(failure), retry_seconds=delay)
                # One failure may be the last breath of the child before it: callers wait for another try.
                if delay > _FIRST_RETRY_SECONDS:
                    self._start_failure = failure
                    if not self._children:
                        self._release_owed(len(self._owed))
                        self._fail_waiters(failure)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LAST_RETRY_SECONDS)
            else:
                return

    async def _replace(self, worn: ChildProcess) -> None:
        await self._spawn_until_it_works()
        worn.replaced = True
        self._retired.add(worn)
        if worn in self._idle:
            worn.kill()

    def _lost(self, child: ChildProcess) -> None:
        """Clean up after a dead child, and start another unless that is in progress."""
        if child not in self._children:
            return
        self._children.discard(child)
        ENGINE_CHILDREN.dec()
        if child in self._idle:
            self._idle.remove(child)
        self._in_background(child.end(), self._ends)
        needless = child in self._replaced or child in self._retired
        ENGINE_EXITS.labels("bloated" if child.bloated else "retired" if child in self._retired else "lost").inc()
        self._replaced.discard(child)
        self._retired.discard(child)
        if not needless and self._standing < self._settings.children:
            self._add()
        else:
            self._grow()

    def _fail_waiters(self, error: EngineUnavailable) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(_copy(error))

    def _in_background(self, work: Coroutine[Any, Any, None], tasks: "set[asyncio.Task[None]]") -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task


def _unavailable(error: BaseException) -> EngineUnavailable:
    return error if isinstance(error, EngineUnavailable) else EngineUnavailable(f"no engine child can start: {error}")


def _copy(error: EngineUnavailable) -> EngineUnavailable:
    """Copy the error: one object raised in several tasks would collect all their tracebacks."""
    return EngineUnavailable(str(error), stderr_tail=error.stderr_tail)

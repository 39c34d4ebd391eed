"""Keeps the parts of ``pilothouse serve`` running, and ends them in order.

A part is a child process, or a service that is watched because it is nobody's child (the embedded PostgreSQL).
What must stay true:

- Parts start in the order given, each once the one before is ready, and stop in the reverse order.
- A part that dies is started again, after a pause that doubles while it keeps dying. Only at the very first start
  repeated deaths are an error: a wrong setting should end the program, not spin it.
- Each child leads a process group, and what is left of the group is killed when the child ends, before its
  number is given back to the kernel: a restarted part finds no remains of itself, and no stranger is hit.
- Children arm ``die_with_parent``, so that they end with us also when nobody can tell them to. That signal follows
  the *thread* that spawned the child: all are spawned by the main thread, which lives as long as the process.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import structlog

from pilothouse.errors import PartFailed

_PR_SET_PDEATHSIG = 1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Backoff:
    """Seconds before a dead part is started again: doubling, and forgotten once a part has lived a while."""

    first: float = 0.1
    longest: float = 10.0
    forget_after: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """A child process. ``env`` may be a function, asked at every start; without it the child inherits ours.

    ``wait_until_ready`` returns when the part serves; it is cancelled when the part dies or ``ready_seconds`` pass.
    Without it a part counts as ready when it runs. Standard output and error are ours.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None
    wait_until_ready: Callable[[], Awaitable[None]] | None = None
    ready_seconds: float = 30.0
    first_attempts: int = 3
    stop_seconds: float = 10.0
    backoff: Backoff = Backoff()


class Service(Protocol):
    """Something that runs outside our children. All three may block; ``stop`` may be called during a ``start``."""

    def start(self) -> object:
        """Returns when it serves; starting what runs already changes nothing."""

    def is_alive(self) -> bool:
        """False when it needs to be started again."""

    def stop(self) -> None:
        """Returns when it has ended; stopping what has ended changes nothing."""


@dataclass(frozen=True, kw_only=True)
class WatchedService:
    """A service and how often it is looked at."""

    name: str
    service: Service
    watch_seconds: float = 1.0
    backoff: Backoff = Backoff()


EventKind = Literal[
    "part_started", "part_ready", "part_not_ready", "part_died", "part_stopping", "part_killed", "part_stopped"
]


@dataclass(frozen=True)
class PartEvent:
    """Something that happened to a part; ``detail`` is for a person, and often empty."""

    kind: EventKind
    part: str
    pid: int | None = None
    detail: str = ""


def die_with_parent(expected_parent_pid: int, *, number: signal.Signals = signal.SIGKILL) -> None:
    """From here on the kernel sends ``number`` to this process when its parent dies, however it dies.

    Call it first thing in a child, with the number its parent knew itself by. A parent that was gone before the
    call is noticed too, and the signal sent at once. "Parent" is the thread that spawned us. Linux only.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")
    if os.getppid() != expected_parent_pid:
        os.kill(os.getpid(), number)


class Supervisor:
    """Runs the parts until it is told to stop. One object, one run."""

    def __init__(
        self, parts: Sequence[Part | WatchedService], *, on_event: Callable[[PartEvent], object] | None = None
    ) -> None:
        """``on_event`` is called in the supervisor's thread, must be quick, and what it raises is only logged."""
        self._parts = parts
        self._on_event = on_event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._hasten = asyncio.Event()

    def run(self) -> None:
        """Returns after SIGTERM, SIGINT, SIGHUP or ``stop``, when every part has ended; a second one kills at once.

        Raises PartFailed, or what a service's first start raised, after stopping the parts already started.
        Call it in the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("Supervisor.run belongs in the main thread: children would die with any other one")
        asyncio.run(self._run())

    def stop(self) -> None:
        """Tells a running supervisor to stop, and at the second call to hurry; safe in any thread."""
        if self._loop is None:
            self._on_stop()
            return
        with contextlib.suppress(RuntimeError):  # the run is over
            self._loop.call_soon_threadsafe(self._on_stop)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        keepers = [self._keeper(part) for part in self._parts]
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            numbers.append(signal.SIGHUP)
        for number in numbers:
            self._loop.add_signal_handler(number, self._on_stop)
        self._loop.add_signal_handler(signal.SIGCHLD, _reap, keepers)
        started: list[_Keeper] = []
        try:
            for keeper in keepers:
                started.append(keeper)
                task = keeper.begin()
                await self._unless_stopped(keeper.ready, task)
                if self._stopping.is_set():
                    break
            await self._unless_stopped(*(keeper.task for keeper in started if keeper.task is not None))
        finally:
            for keeper in reversed(started):
                await keeper.finish()

    async def _unless_stopped(self, *work: asyncio.Future[None]) -> None:
        """Returns when the stop comes or one of the works ends, and raises what that one raised."""
        stop = asyncio.create_task(self._stopping.wait())
        waited: list[asyncio.Future[Any]] = [stop, *work]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for one in work:
            if one.done():
                one.result()

    def _on_stop(self) -> None:
        if self._stopping.is_set():
            self._hasten.set()
        self._stopping.set()

    def _keeper(self, part: Part | WatchedService) -> "_Keeper":
        if isinstance(part, Part):
            return _ProcessKeeper(part, self._hasten, self._announce)
        return _ServiceKeeper(part, self._announce)

    def _announce(self, event: PartEvent) -> None:
        # Logging and printing fail when the terminal is gone; the parts must be kept and stopped all the same.
        try:
            _log.info(event.kind, part=event.part, pid=event.pid, detail=event.detail)
            if self._on_event is not None:
                self._on_event(event)
        except Exception:  # noqa: BLE001 (whatever a listener raises is the listener's)
            with contextlib.suppress(Exception):
                _log.exception("part_event_failed", part=event.part, kind=event.kind)


class _Keeper:
    """Keeps one part running, in a task of its own that ends only when it is told to."""

    def __init__(self, name: str, backoff: Backoff, announce: Callable[[PartEvent], None]) -> None:
        self.task: asyncio.Task[None] | None = None
        self.name = name
        self.stopping = asyncio.Event()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Read here once, so that a failure during a stop, when nobody waits for it, is no complaint of asyncio's.
        self.ready.add_done_callback(lambda ready: ready.exception())
        self._announce = announce
        self._backoff = backoff
        self._pause = backoff.first

    def begin(self) -> asyncio.Task[None]:
        """Starts the part; ``ready`` is done when it is ready for the first time, or holds why it never was."""
        self.task = asyncio.create_task(self.keep())
        return self.task

    async def keep(self) -> None:
        """Starts the part again and again, until ``stopping`` is set or it was never ready."""
        raise NotImplementedError

    async def finish(self) -> None:
        """Returns when the part has ended; raises nothing, because the other parts must end too."""
        raise NotImplementedError

    def reap(self) -> None:
        """Looks whether a child of this keeper has ended."""

    def announce(self, kind: EventKind, pid: int | None = None, detail: str = "") -> None:
        self._announce(PartEvent(kind, self.name, pid, detail))

    async def pause(self, lived_seconds: float) -> None:
        """Waits before the next start, longer after every short life; a stop ends the wait."""
        if lived_seconds >= self._backoff.forget_after:
            self._pause = self._backoff.first
        await _within(self._pause, self.stopping.wait())
        self._pause = min(self._pause * 2, self._backoff.longest)


class _ProcessKeeper(_Keeper):
    def __init__(self, part: Part, hasten: asyncio.Event, announce: Callable[[PartEvent], None]) -> None:
        super().__init__(part.name, part.backoff, announce)
        self._part = part
        self._hasten = hasten
        self._child: subprocess.Popen[bytes] | None = None
        self._exited = asyncio.Event()

    async def keep(self) -> None:
        loop = asyncio.get_running_loop()
        attempts = 0
        while not self.stopping.is_set():
            began = loop.time()
            attempts += 1
            ended = await self._live()
            if self.stopping.is_set():
                return
            self.announce("part_died", None, ended)
            if not self.ready.done() and attempts >= self._part.first_attempts:
                self.ready.set_exception(
                    PartFailed(f"the part {self.name} ended {attempts} times before it was ready, at last with {ended}")
                )
                return
            await self.pause(loop.time() - began)

    async def finish(self) -> None:
        self.stopping.set()
        if self.task is not None:
            await asyncio.wait([self.task])

    def reap(self) -> None:
        child = self._child
        if child is None or self._exited.is_set():
            return
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            # Before the wait: until then neither the process nor the group can have a successor.
            self._kill_group(child)
            child.wait()
            self._exited.set()

    async def _live(self) -> str:
        """One life of the child, from its start to its end; says how it ended."""
        env = self._part.env() if callable(self._part.env) else self._part.env
        self._exited = asyncio.Event()
        try:
            self._child = subprocess.Popen(  # noqa: ASYNC220, S603 (spawned by this thread; argv is ours)
                list(self._part.argv), env=env, stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            return str(error)
        child = self._child
        self.announce("part_started", child.pid)
        ready = asyncio.create_task(self._become_ready(child.pid))
        self.reap()
        try:
            await _first(self._exited.wait(), self.stopping.wait())
            if not self._exited.is_set():
                await self._end(child)
        finally:
            ready.cancel()
            await asyncio.wait({ready})
        code = child.returncode
        return f"exit code {code}" if code >= 0 else f"signal {_signal_name(-code)}"

    async def _become_ready(self, pid: int) -> None:
        why = ""
        if self._part.wait_until_ready is not None:
            try:
                async with asyncio.timeout(self._part.ready_seconds):
                    await self._part.wait_until_ready()
            except TimeoutError:
                why = f"not ready after {self._part.ready_seconds:g} s"
            except Exception as error:  # noqa: BLE001 (the probe is the caller's; its failure is the part's)
                why = f"{type(error).__name__}: {error}"
        self.announce("part_not_ready" if why else "part_ready", pid, why)
        if self.ready.done():
            return
        if why:
            self.ready.set_exception(PartFailed(f"the part {self.name} did not become ready: {why}"))
        else:
            self.ready.set_result(None)

    async def _end(self, child: subprocess.Popen[bytes]) -> None:
        self.announce("part_stopping", child.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)
        await _within(self._part.stop_seconds, _first(self._exited.wait(), self._hasten.wait()))
        if not self._exited.is_set():
            self.announce("part_killed", child.pid)
            self._kill_group(child)
            await self._exited.wait()
        self.announce("part_stopped", child.pid)

    @staticmethod
    def _kill_group(child: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


class _ServiceKeeper(_Keeper):
    def __init__(self, part: WatchedService, announce: Callable[[PartEvent], None]) -> None:
        super().__init__(part.name, part.backoff, announce)
        self._service = part.service
        self._watch_seconds = part.watch_seconds
        self._starting = False

    async def keep(self) -> None:
        try:
            await self._start()
        except Exception as error:  # noqa: BLE001 (handed to the one who waits for it)
            self.ready.set_exception(error)
            return
        self.ready.set_result(None)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self.stopping.is_set():
            await _within(self._watch_seconds, self.stopping.wait())
            if self.stopping.is_set() or await asyncio.to_thread(self._service.is_alive):
                continue
            self.announce("part_died")
            await self.pause(loop.time() - began)
            began = loop.time()
            try:
                if not self.stopping.is_set():
                    await self._start()
            except Exception as error:  # noqa: BLE001 (the next look finds it dead and tries again)
                self.announce("part_not_ready", None, str(error))

    async def finish(self) -> None:
        self.stopping.set()
        self.announce("part_stopping")
        try:
            if self._starting:
                await asyncio.to_thread(self._service.stop)  # interrupts the start
            if self.task is not None:
                await asyncio.wait([self.task])
            if self.ready.done() and self.ready.exception() is None:
                await asyncio.to_thread(self._service.stop)
        except Exception as error:  # noqa: BLE001 (the other parts must be stopped all the same)
            self.announce("part_not_ready", None, f"it does not stop: {error}")
        else:
            self.announce("part_stopped")

    async def _start(self) -> None:
        self._starting = True
        try:
            self.announce("part_started")
            await asyncio.to_thread(self._service.start)
            self.announce("part_ready")
        finally:
            self._starting = False


def _reap(keepers: Sequence[_Keeper]) -> None:
    for keeper in keepers:
        keeper.reap()


async def _first(*waits: Awaitable[object]) -> None:
    """Returns when one of them has ended, and cancels the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _within(seconds: float, wait: Awaitable[object]) -> None:
    """Returns when it has ended, or has been cancelled because the time is up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)

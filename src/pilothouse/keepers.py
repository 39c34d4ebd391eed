"""Keepers of the supervisor's parts: each keeps one child process, or one external service, running."""

import asyncio
import contextlib
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pilothouse.errors import PartFailed
from pilothouse.liveness import VARIABLE, Liveness, Pulse


@dataclass(frozen=True)
class Backoff:
    """Delay before a dead part is restarted: doubles each time, and is reset once a part has lived a while."""

    first: float = 0.1
    longest: float = 10.0
    forget_after: float = 30.0


@dataclass(frozen=True, kw_only=True)
class ManagedProcess:
    """A child process. ``env`` may be a function, called at every start; without it the child inherits ours.

    ``wait_until_ready`` returns when the part serves; it is cancelled when the part dies or ``ready_seconds`` pass.
    With ``liveness`` its event loop must answer, as ``liveness.answering`` does, and the part must say that it is ready
    before it is asked from outside. Without either it counts as ready when it runs. Standard output and error are ours.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None
    wait_until_ready: Callable[[], Awaitable[None]] | None = None
    ready_seconds: float = 30.0
    first_attempts: int = 3
    stop_seconds: float = 10.0
    backoff: Backoff = Backoff()
    liveness: Liveness | None = None


class Service(Protocol):
    """A service outside our children. All methods may block; ``stop`` may be called during a ``start``."""

    def start(self) -> object:
        """Return when it serves; no effect if it already runs."""

    def is_alive(self) -> bool:
        """Return False if it needs to be started again."""

    def stop(self) -> None:
        """Return when it has ended; no effect if it has already ended."""


@dataclass(frozen=True, kw_only=True)
class WatchedService:
    """A service and its polling interval."""

    name: str
    service: Service
    watch_seconds: float = 1.0
    backoff: Backoff = Backoff()


EventKind = Literal[
    "part_started",
    "part_ready",
    "part_not_ready",
    "part_silent",
    "part_died",
    "part_stopping",
    "part_killed",
    "part_stopped",
]


@dataclass(frozen=True)
class ProcessEvent:
    """An event of a part; ``detail`` is for people, and often empty."""

    kind: EventKind
    part: str
    pid: int | None = None
    detail: str = ""


class Keeper(ABC):
    """Keep one part running, in a separate task that ends only on request."""

    def __init__(self, name: str, backoff: Backoff, announce: Callable[[ProcessEvent], None]) -> None:
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
        """Start the part; ``ready`` completes when it is ready for the first time, or holds why it never was."""
        self.task = asyncio.create_task(self.keep())
        return self.task

    @abstractmethod
    async def keep(self) -> None:
        """Start the part again and again, until ``stopping`` is set or it was never ready."""

    @abstractmethod
    async def finish(self) -> None:
        """Return when the part has ended; raise nothing, because the other parts must end too."""

    def reap(self) -> None:  # noqa: B027 - a service has no child
        """Check whether a child of this keeper has ended."""

    def announce(self, kind: EventKind, pid: int | None = None, detail: str = "") -> None:
        """Report an event of the part to the supervisor."""
        self._announce(ProcessEvent(kind, self.name, pid, detail))

    async def pause(self, lived_seconds: float) -> None:
        """Wait before the next start, longer after every short life; a stop ends the wait."""
        if lived_seconds >= self._backoff.forget_after:
            self._pause = self._backoff.first
        await _within(self._pause, self.stopping.wait())
        self._pause = min(self._pause * 2, self._backoff.longest)


class ProcessKeeper(Keeper):
    """Keep a child process running."""

    def __init__(self, part: ManagedProcess, force: asyncio.Event, announce: Callable[[ProcessEvent], None]) -> None:
        super().__init__(part.name, part.backoff, announce)
        self._part = part
        self._force = force
        self._child: subprocess.Popen[bytes] | None = None
        self._exited = asyncio.Event()

    async def keep(self) -> None:
        """Run one life after the other; too many deaths before the first readiness are an error."""
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
        """End the child with SIGTERM, and finally with SIGKILL."""
        self.stopping.set()
        if self.task is not None:
            await asyncio.wait([self.task])

    def reap(self) -> None:
        """Collect the child's exit code when it has ended, and kill what is left of its group."""
        child = self._child
        if child is None or self._exited.is_set():
            return
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            # Before the wait: until then neither the process nor the group can have a successor.
            self._kill_group(child)
            child.wait()
            self._exited.set()

    async def _live(self) -> str:
        """Run one life of the child, from start to end; return how it ended."""
        self._exited = asyncio.Event()
        with contextlib.ExitStack() as closed:
            pulse = closed.enter_context(Pulse(self._part.liveness)) if self._part.liveness is not None else None
            try:
                self._child = child = self._spawn(pulse)
            except OSError as error:
                return str(error)
            self.announce("part_started", child.pid)
            beside = {asyncio.create_task(self._become_ready(child.pid, pulse))}
            if pulse is not None:
                beside.add(asyncio.create_task(self._kill_when_silent(child, pulse)))
            self.reap()
            try:
                await _first(self._exited.wait(), self.stopping.wait())
                if not self._exited.is_set():
                    await self._end(child)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)
        code = child.returncode
        return f"exit code {code}" if code >= 0 else f"signal {_signal_name(-code)}"

    def _spawn(self, pulse: Pulse | None) -> "subprocess.Popen[bytes]":
        env = self._part.env() if callable(self._part.env) else self._part.env
        argv = list(self._part.argv)
        if pulse is None:
            return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 (ours)
        with pulse.handed_over() as number:
            env = {**(os.environ if env is None else env), VARIABLE: str(number)}
            return subprocess.Popen(  # noqa: S603 (argv is ours)
                argv, env=env, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[number]
            )

    async def _kill_when_silent(self, child: "subprocess.Popen[bytes]", pulse: Pulse) -> None:
        why = await pulse.until_silent()
        if not self._exited.is_set():
            self.announce("part_silent", child.pid, why)
            self._kill_group(child)

    async def _become_ready(self, pid: int, pulse: Pulse | None) -> None:
        why = await self._wait_until_ready(pulse, seconds=self._part.ready_seconds)
        self.announce("part_not_ready" if why else "part_ready", pid, why)
        if not self.ready.done():
            if why:
                self.ready.set_exception(PartFailed(f"the part {self.name} did not become ready: {why}"))
            else:
                self.ready.set_result(None)
        elif why and not await self._wait_until_ready(pulse, seconds=None):
            self.announce("part_ready", pid)  # late, and until then it was told to be failing

    async def _wait_until_ready(self, pulse: Pulse | None, *, seconds: float | None) -> str:
        """Return when the part is ready, or why it is not; None: it may take as long as it lives."""
        try:
            async with asyncio.timeout(seconds):
                if pulse is not None:
                    await pulse.ready.wait()
                if self._part.wait_until_ready is not None:
                    await self._part.wait_until_ready()
        except TimeoutError:
            return f"not ready after {self._part.ready_seconds:g} s"
        except Exception as error:  # noqa: BLE001 (the probe is the caller's; its failure is the part's)
            return f"{type(error).__name__}: {error}"
        return ""

    async def _end(self, child: subprocess.Popen[bytes]) -> None:
        self.announce("part_stopping", child.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)
        await _within(self._part.stop_seconds, _first(self._exited.wait(), self._force.wait()))
        if not self._exited.is_set():
            self.announce("part_killed", child.pid)
            self._kill_group(child)
            await self._exited.wait()
        self.announce("part_stopped", child.pid)

    @staticmethod
    def _kill_group(child: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


class ServiceKeeper(Keeper):
    """Keep a service running that is not our child."""

    def __init__(self, part: WatchedService, announce: Callable[[ProcessEvent], None]) -> None:
        super().__init__(part.name, part.backoff, announce)
        self._service = part.service
        self._watch_seconds = part.watch_seconds
        self._starting = False

    async def keep(self) -> None:
        """Start the service, check it periodically, and restart it when it is dead."""
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
        """Stop the service; interrupts a start in progress."""
        self.stopping.set()
        self.announce("part_stopping")
        try:
            if self._starting:
                await asyncio.to_thread(self._service.stop)  # interrupts the start
            if self.task is not None:
                await asyncio.wait([self.task])
            if self.ready.done() and self.ready.exception() is None:
                await asyncio.to_thread(self._service.stop)
        except Exception as error:  # noqa: BLE001 (the other parts must be stopped anyway)
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


async def _first(*waits: Awaitable[object]) -> None:
    """Return when one of them has ended, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _within(seconds: float, wait: Awaitable[object]) -> None:
    """Return when it has ended, or was cancelled because the time is up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)

"""Keeps the parts of ``pilothouse serve`` running, and stops them in order.

A part is a child process, or a service that is not a child (the embedded PostgreSQL). Invariants:

- Parts start in the given order, each once the previous one is ready, and stop in reverse order.
- A part that dies is restarted, after a delay that doubles while it keeps dying. Repeated deaths are an error only at
  the very first start: a wrong setting should end the program, not keep it restarting.
- A part that hangs counts as dead: if it no longer answers it is killed and restarted (``liveness``).
- Each child leads a process group, and what is left of the group is killed when the child ends, before the kernel
  can reuse its number: a restarted part finds no remains of itself, and no unrelated process is hit.
- Children call ``die_with_parent``, so that they end with us in any case. That signal follows the *thread* that
  spawned the child: all are spawned by the main thread, which lives as long as the process.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from pilothouse.keepers import Keeper, ManagedProcess, ProcessEvent, ProcessKeeper, ServiceKeeper, WatchedService

_log = structlog.get_logger(__name__)


class Supervisor:
    """Run the parts until told to stop. One object, one run."""

    def __init__(
        self,
        parts: Sequence[ManagedProcess | WatchedService],
        *,
        on_event: Callable[[ProcessEvent], object] | None = None,
    ) -> None:
        """``on_event`` is called in the supervisor's thread, must be quick, and its exceptions are only logged."""
        self._parts = parts
        self._on_event = on_event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._force = asyncio.Event()

    def run(self) -> None:
        """Return after SIGTERM, SIGINT, SIGHUP or ``stop``, when every part has ended; a second one kills at once.

        Raises PartFailed, or what a service's first start raised, after stopping the parts already started. Call it in
        the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("Supervisor.run belongs in the main thread: children would die with any other one")
        asyncio.run(self._run())

    def stop(self) -> None:
        """Tell a running supervisor to stop, and at the second call to kill; thread-safe."""
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
        started: list[Keeper] = []
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
        """Return on a stop or when one of the works ends, and raise what that one raised."""
        stop = asyncio.create_task(self._stopping.wait())
        waited: list[asyncio.Future[Any]] = [stop, *work]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for future in work:
            if future.done():
                future.result()

    def _on_stop(self) -> None:
        if self._stopping.is_set():
            self._force.set()
        self._stopping.set()

    def _keeper(self, part: ManagedProcess | WatchedService) -> Keeper:
        if isinstance(part, ManagedProcess):
            return ProcessKeeper(part, self._force, self._announce)
        return ServiceKeeper(part, self._announce)

    def _announce(self, event: ProcessEvent) -> None:
        # Logging and printing fail when the terminal is gone; the parts must be kept and stopped anyway.
        try:
            _log.info(event.kind, part=event.part, pid=event.pid, detail=event.detail)
            if self._on_event is not None:
                self._on_event(event)
        except Exception:  # noqa: BLE001 (whatever a listener raises is the listener's)
            with contextlib.suppress(Exception):
                _log.exception("part_event_failed", part=event.part, kind=event.kind)


def _reap(keepers: Sequence[Keeper]) -> None:
    for keeper in keepers:
        keeper.reap()

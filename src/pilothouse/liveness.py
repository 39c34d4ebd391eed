"""Detection of hanging processes: the supervisor asks, and the process's event loop answers.

Both use a socket pair, one end of which the process inherits. The loop itself answers, not a thread: a process that is
stopped, holds the interpreter's lock forever, or blocks the loop does not answer. Invariants:

- A process that starts slowly does not count as hanging: silence counts from its first answer on.
- Whether a process is ready it says itself, once, over the same sockets: whoever answers at its port may be another.
- Only time in which the supervisor itself ran counts. After a pause of the machine, or of the supervisor alone, every
  process has its full time again.
"""

import asyncio
import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

#: In the part's environment: the number of its end of the socket pair.
VARIABLE: Final = "PILOTHOUSE_LIVENESS_FD"

_ASK_SECONDS: Final = 1.0
#: A look that is later than this after the one before says that the supervisor did not run in between.
_LATE_SECONDS: Final = 3.0
_PR_SET_PDEATHSIG: Final = 1
_HERE, _READY = b".", b"r"


@dataclass(frozen=True, kw_only=True)
class Liveness:
    """How long a process may be silent: after it has answered, and before its first answer."""

    silent_seconds: float
    start_seconds: float


class Pulse:
    """The supervisor's end, for one life of a process."""

    def __init__(self, limits: Liveness) -> None:
        self._limits = limits
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._heard = False
        #: The process has said that it does its work.
        self.ready = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ours.close()
        self._theirs.close()

    @contextmanager
    def handed_over(self) -> Iterator[int]:
        """Yield the descriptor of the process's end, which it inherits in the block; ours of it is closed after."""
        with self._theirs:
            yield self._theirs.fileno()

    async def until_silent(self) -> str:
        """Ask every second; return the reason when the process has been silent for too long."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ours.fileno(), self._hear)
        try:
            return await self._watch()
        finally:
            loop.remove_reader(self._ours.fileno())

    async def _watch(self) -> str:
        limit, silent, checked_at = self._limits.start_seconds, 0.0, _now()
        while True:
            with suppress(OSError):  # not taken yet what was asked before, or gone
                self._ours.send(b"?")
            await asyncio.sleep(_ASK_SECONDS)
            passed, checked_at = _now() - checked_at, _now()
            if self._heard:
                limit = self._limits.silent_seconds
            silent = 0.0 if self._heard or passed > _LATE_SECONDS else silent + passed
            self._heard = False
            if silent >= limit:
                return f"no answer for {silent:.0f} s"

    def _hear(self) -> None:
        try:
            answer = self._ours.recv(256)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        if answer:
            self._heard = True
            if _READY in answer:
                self.ready.set()
        else:  # closed: no further answer will come, and the socket would be readable for ever
            asyncio.get_running_loop().remove_reader(self._ours.fileno())


@contextmanager
def answering() -> Iterator[Callable[[], None]]:
    """Let the running event loop answer the supervisor that started this process; without one, do nothing.

    Yields the function to call, in that loop, when the process does its work.
    """
    number = os.environ.pop(VARIABLE, "")
    if not number:
        yield lambda: None
        return
    channel = socket.socket(fileno=int(number))
    channel.setblocking(False)
    channel.set_inheritable(False)
    loop = asyncio.get_running_loop()
    loop.add_reader(channel.fileno(), _answer, loop, channel)
    try:
        yield lambda: _say_ready(channel)
    finally:
        loop.remove_reader(channel.fileno())
        channel.close()


def _say_ready(channel: socket.socket) -> None:
    with suppress(OSError):  # the supervisor is gone, and we go with it
        channel.send(_READY)


def _answer(loop: asyncio.AbstractEventLoop, channel: socket.socket) -> None:
    try:
        question = channel.recv(256)
        if question:
            channel.send(_HERE)
            return
    except BlockingIOError:
        return
    except OSError:
        pass
    loop.remove_reader(channel.fileno())  # the supervisor is gone, and we go with it


def _now() -> float:
    """Return seconds of a clock that continues while the machine is suspended, to detect pauses."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def die_with_parent(expected_parent_pid: int, *, number: signal.Signals = signal.SIGKILL) -> None:
    """Make the kernel send ``number`` to this process when its parent dies, in whatever way.

    Call it first in a child, with the parent's process id. If the parent was gone before the call, the signal is sent
    at once. "Parent" is the thread that spawned us. Linux only.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")
    if os.getppid() != expected_parent_pid:
        os.kill(os.getpid(), number)

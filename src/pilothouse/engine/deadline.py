"""Deadlines that hold even if the parent cannot act: a word of memory shared by parent and child.

The parent writes the time (CLOCK_BOOTTIME, nanoseconds, so that suspended time counts) at which the child must be gone;
a thread of the child checks it while an operation runs, and ends the process when the time has passed. This needs no
message and no lock: a frozen parent simply stops extending. 0 means that nothing runs.
"""

import mmap
import os
import threading
import time
from collections.abc import Callable

from pilothouse.errors import EngineTimeout

#: How the child ends itself: ``watchdogExit`` of engine/main.go.
WATCHDOG_EXIT = 86
_SIZE = mmap.PAGESIZE


def boottime() -> float:
    """Return seconds since boot, including suspended time; the clock of every deadline here."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SharedDeadline:
    """One aligned 8-byte word in memory shared by parent and child; reads and writes are atomic."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _SIZE)
        self._word = memoryview(self._map).cast("q")

    @staticmethod
    def create_fd() -> int:
        """Return a new anonymous file to pass to the child; the caller closes it."""
        fd = os.memfd_create("pilothouse-deadline", os.MFD_CLOEXEC)
        os.ftruncate(fd, _SIZE)
        return fd

    def set(self, moment: float) -> None:
        """Require that the child is gone at ``moment`` (``boottime()`` seconds); 0 lifts the deadline."""
        self._word[0] = int(moment * 1e9)

    def close(self) -> None:
        """Unmap the word on this side."""
        self._word.release()
        self._map.close()


class Fence:
    """A caller's own limit on a running call, extended from any thread while the caller may still act.

    The worker creates one per attempt: each confirmed renewal of its lease extends the fence. When renewals stop, the
    child ends by itself, even if this whole process is frozen. Every method is thread-safe and does not block.
    """

    def __init__(self, until: float) -> None:
        """``until``: ``boottime()`` seconds at which the call must be dead unless extended."""
        self._lock = threading.Lock()
        self._until = until
        self._apply: Callable[[float], None] | None = None
        self._kill: Callable[[], None] | None = None

    @property
    def passed(self) -> bool:
        """True if the call must be dead by now."""
        with self._lock:
            return self._until <= boottime()

    def extend(self, until: float) -> None:
        """Let the call live until ``until``; a fence that has passed, or was killed, stays passed."""
        with self._lock:
            if self._until > boottime():
                self._until = until
                if self._apply is not None:
                    self._apply(until)

    def kill(self) -> None:
        """End the call at once with SIGKILL; a call that has not begun will not begin."""
        with self._lock:
            self._until = 0.0
            if self._kill is not None:
                self._kill()

    def attach(self, apply: Callable[[float], None], kill: Callable[[], None]) -> None:
        """Start to control a child; raise EngineTimeout if the fence has already passed."""
        with self._lock:
            if self._until <= boottime():
                raise EngineTimeout("the time in which this call could begin has passed; nothing was done")
            self._apply, self._kill = apply, kill
            apply(self._until)

    def detach(self) -> None:
        """Stop controlling the child; afterwards no thread can reach it through this fence."""
        with self._lock:
            self._apply = self._kill = None

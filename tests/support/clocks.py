"""A clock that processes can be given: their system's clock plus what a file says, which may change while they run."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

#: Loaded before the C library: whoever asks for the time of day gets it with the file's seconds added.
_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long added(void) {
    long seconds = 0;
    const char *path = getenv("SHIFTED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    if (read(file, &seconds, sizeof seconds) != sizeof seconds) seconds = 0;
    close(file);
    return seconds;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, which, now);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += added();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec found;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec found;
    if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
    if (result) *result = found.tv_sec;
    return found.tv_sec;
}
"""


class ShiftedClock:
    """The clock of processes that run with ``environment``; the database's is not among them."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler: the library that shifts a clock cannot be made")
        source, library = folder / "clock.c", folder / "clock.so"
        source.write_text(_SOURCE)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
        self._file = folder / "shift"
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Let the clock jump to that distance from the system's."""
        new = self._file.with_suffix(".new")
        new.write_bytes(struct.pack("l", seconds))
        new.replace(self._file)

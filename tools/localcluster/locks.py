"""Locks between processes: a program is built once, and one process at a time starts or stops a cluster."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.localcluster.progress import Progress


@contextmanager
def held(path: Path, *, progress: Progress, waiting: str) -> Iterator[None]:
    """Nobody else holds the lock file `path` inside this block; the kernel lets go of it if this process dies.

    The file itself is never removed: a process that waits for a removed file would get a lock that guards nothing.
    `waiting` is shown while another process holds it.
    """
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(waiting):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield

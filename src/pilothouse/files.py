"""Files that several processes use: locks, and contents that are replaced as a whole."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def hold_lock(path: Path, *, create: bool = True, wait: bool = True) -> int:
    """Lock a file, or an existing folder with ``create=False``; return the descriptor that holds it until it closes.

    Without ``wait``, raise BlockingIOError if another process holds it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW if create else os.O_RDONLY
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(path: Path, *, create: bool = True) -> Iterator[None]:
    """Hold the lock of a file or folder; other processes wait."""
    descriptor = hold_lock(path, create=create)
    try:
        yield
    finally:
        os.close(descriptor)


def write_file(
    path: Path, content: bytes, *, mode: int = 0o600, owner: os.stat_result | None = None, replace: bool = True
) -> None:
    """Write a file atomically and durably: a crash leaves the old one or the new one.

    ``owner``: whose owner root gives it. Without ``replace``, an existing file is kept.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None and os.geteuid() == 0:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if replace:
            temporary.replace(path)
        else:
            with suppress(FileExistsError):
                os.link(temporary, path)  # unlike a rename, this never replaces what somebody already uses
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

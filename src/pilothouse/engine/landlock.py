"""Irrevocable kernel rules for files, TCP and signals of this thread and those it starts.

Landlock exists since Linux 5.13; additional features of newer kernels are used where available. Access to a forbidden
file fails with "permission denied". Files that are already open stay usable. Source: Linux,
Documentation/userspace-api/landlock.rst.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG: Final = 1
_RULE_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ALL_OF_THE_FIRST: Final = (1 << 13) - 1
#: By the version of the kernel's interface: the first that knows the right.
_LATER_RIGHTS: Final = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
_FIRST_WITH_NETWORK, _FIRST_WITH_SCOPES = 4, 6
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 1 | 2
_BIND_AND_CONNECT_TCP: Final = 1 | 2

_READ: Final = _READ_FILE | _READ_DIR
_WRITE: Final = _READ | _WRITE_FILE | _TRUNCATE | _REFER | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Return the version of the kernel's interface; 0 without Landlock."""
    found: int = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    return max(0, found)


def confine_files(*, readable: Iterable[Path], executable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Limit this thread, and every one that it starts, to these files and folders.

    Paths that do not exist are skipped. From Linux 6.7 on, it also can neither connect nor listen with TCP and, from
    6.12 on, neither signal processes outside nor reach their abstract sockets. Raises OSError if ``version`` is 0.
    """
    kernel = version()
    handled = _ALL_OF_THE_FIRST
    for first, right in _LATER_RIGHTS.items():
        handled |= right if kernel >= first else 0
    rules = struct.pack("=Q", handled)
    if kernel >= _FIRST_WITH_NETWORK:
        rules += struct.pack("=Q", _BIND_AND_CONNECT_TCP)
    if kernel >= _FIRST_WITH_SCOPES:
        rules += struct.pack("=Q", _ABSTRACT_SOCKETS_AND_SIGNALS)
    ruleset = checked(_libc.syscall(_CREATE_RULESET, rules, len(rules), 0))
    try:
        for paths, rights in ((readable, _READ), (executable, _READ_FILE | _EXECUTE), (writable, _WRITE)):
            for path in paths:
                with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                    _allow(ruleset, path, rights & handled)
        checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def checked(result: int) -> int:
    """Return the result of a call of the C library; raise OSError if it failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _allow(ruleset: int, path: Path, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, handle)
        checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(handle)

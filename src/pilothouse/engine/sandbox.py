"""Sandbox of an engine child, as far as the kernel supports it.

A chart, or a cluster's answers, that took over the engine would find: its own folder, its program and what that needs
to run; no socket but those it was given; no capabilities; an account that owns nothing else, if we are root; and no
process to signal or inspect. For a launcher or a child to call on itself, while it has one thread:

    restrict(sandbox)    files, system calls, capabilities; holds for every thread and program that comes after
    leave_root(sandbox)  the account; afterwards what only root may read can no longer be opened

Steps that the kernel lacks are skipped, and ``missing_protections`` names them; a step that fails raises OSError, and
the child must not work then.
"""

import ctypes
import os
import signal
import struct
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pilothouse.engine.landlock import checked, confine_files, version
from pilothouse.engine.seccomp import can_filter, filter_calls

_PR_SET_PDEATHSIG: Final = 1
_CAPABILITIES_VERSION: Final = 0x20080522
_CAP_DAC_READ_SEARCH, _CAP_SETGID, _CAP_SETUID = 2, 6, 7
_FIRST_LANDLOCK_WITH_SIGNALS: Final = 6

#: What a program needs of the machine: libraries, authorities for TLS, time zones for templates, its own numbers.
_OF_THE_MACHINE: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"),
    *("/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls", "/etc/pki/ca-trust/extracted"),
    *("/usr/share/ca-certificates", "/usr/share/zoneinfo", "/etc/localtime"),
    *("/proc/self", "/sys/kernel/mm/transparent_hugepage", "/dev/urandom", "/dev/zero"),
)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """The rights of a child: its folder, files to read or execute, and, for root, the account that it switches to."""

    folder: str
    readable: tuple[str, ...] = ()
    executable: tuple[str, ...] = ()
    user_id: int | None = None


def python_files() -> tuple[str, ...]:
    """Return the files of this interpreter and of all packages that it finds now."""
    paths = sysconfig.get_paths()
    library = str(Path(sys.base_prefix) / "lib")  # libpython, where it is one
    found = (paths["stdlib"], paths["platstdlib"], library, *sys.path)
    return tuple(dict.fromkeys(path for path in found if Path(path).is_absolute()))


def restrict(sandbox: Sandbox) -> None:
    """Drop files, system calls and capabilities of this thread and what it starts."""
    if version():
        confine_files(
            readable=map(Path, (*_OF_THE_MACHINE, *sandbox.readable)),
            executable=map(Path, sandbox.executable),
            writable=map(Path, (sandbox.folder, "/dev/null")),
        )
    if can_filter():
        filter_calls()
    if os.geteuid() == 0:
        # Until it leaves root it loads what lies behind closed folders: the interpreter of a private home.
        switching = (_CAP_DAC_READ_SEARCH, _CAP_SETGID, _CAP_SETUID) if sandbox.user_id is not None else ()
        _keep_capabilities(*switching)


def leave_root(sandbox: Sandbox, *, parent_pid: int) -> None:
    """Switch to the sandbox's account in every thread, without groups and capabilities; without an account, stay.

    This clears the parent-death signal in the kernel: it is set again, and if the parent is already gone the process
    ends.
    """
    if sandbox.user_id is None:
        return
    os.setgroups([])
    os.setresgid(sandbox.user_id, sandbox.user_id, sandbox.user_id)
    os.setresuid(sandbox.user_id, sandbox.user_id, sandbox.user_id)
    checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent_pid:
        sys.exit(1)


def missing_protections() -> list[str]:
    """Return the protections that this kernel lacks; empty if it has all."""
    missing = []
    if not version():
        missing.append("no Landlock: children can read what their account can")
    elif version() < _FIRST_LANDLOCK_WITH_SIGNALS:
        missing.append("a Landlock without scopes (Linux 6.12): children can signal processes of their account")
    if not can_filter():
        missing.append(f"no list of system calls for {os.uname().machine}: children can open any kind of socket")
    return missing


def _keep_capabilities(*kept: int) -> None:
    mask = sum(1 << number for number in kept)
    header = struct.pack("=Ii", _CAPABILITIES_VERSION, 0)
    # effective, permitted and inheritable of the first 32, then of the others
    checked(_libc.capset(header, struct.pack("=6I", mask, mask, 0, 0, 0, 0)))

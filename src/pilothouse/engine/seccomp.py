"""System calls that this thread, and those it starts, cannot make: a filter in the kernel (seccomp).

Sockets that were inherited or received can be read and written. None can be created, connected (a connected one can be
turned elsewhere), bound, listened on, or used to send to an address (TCP connects with that, too) or to pass files on.
Calls that inspect other processes, create namespaces, mounts and keys, or circumvent this filter (io_uring) are
refused. The call fails with an error; nothing is killed, except a program of another architecture. Source: Linux,
Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import platform
import struct
from dataclasses import dataclass
from typing import Final

from pilothouse.engine.landlock import checked

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 22, 2, 38
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
#: Where struct seccomp_data has the call's number, the architecture, and the lower half of an argument.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_OTHER_NUMBERS: Final = 0x40000000  # the x32 calls of x86-64
_CLONE_NEW_NAMESPACES: Final = 0x7E020000
#: The same on every architecture: clone3, whose flags a filter cannot see, says that it is not there.
_CLONE3: Final = 435
_REFUSED_EVERYWHERE: Final = (
    *range(424, 434),  # pidfd_send_signal, io_uring_*, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick
    *(438, 440, 442),  # pidfd_getfd, process_madvise, mount_setattr
)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class _Architecture:
    audit: int
    clone: int
    refused: tuple[int, ...]


_ARCHITECTURES: Final = {
    "x86_64": _Architecture(
        audit=0xC000003E,
        clone=56,
        refused=(
            *(41, 42, 43, 44, 46, 49, 50, 53, 288, 307),  # socket, connect, accept, sendto, sendmsg, bind, listen,
            #                                               socketpair, accept4, sendmmsg
            *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(155, 161, 165, 166, 272, 308),  # pivot_root, chroot, mount, umount2, unshare, setns
            *(248, 249, 250, 298, 300, 321, 323),  # add_key, request_key, keyctl, perf_event_open, fanotify_init, bpf,
            #                                        userfaultfd
            *(303, 304),  # name_to_handle_at, open_by_handle_at
            *(135, 154, 172, 173),  # personality, modify_ldt, iopl, ioperm
            *(103, 159, 163, 164, 167, 168, 169, 170, 171, 179, 227),  # syslog, adjtimex, acct, settimeofday, swapon,
            #                              swapoff, reboot, sethostname, setdomainname, quotactl, clock_settime
            *(175, 176, 246, 313, 320),  # init_module, delete_module, kexec_load, finit_module, kexec_file_load
        ),
    ),
    "aarch64": _Architecture(
        audit=0xC00000B7,
        clone=220,
        refused=(
            *(198, 203, 202, 206, 211, 200, 201, 199, 242, 269),
            *(117, 270, 271, 272),
            *(41, 51, 40, 39, 97, 268),
            *(217, 218, 219, 241, 262, 280, 282),
            *(264, 265),
            *(92,),
            *(116, 171, 89, 170, 224, 225, 142, 161, 162, 60, 112),
            *(105, 106, 104, 273, 294),
        ),
    ),
}


def can_filter() -> bool:
    """Return True if the system calls of this architecture are known here."""
    return platform.machine() in _ARCHITECTURES


def filter_calls() -> None:
    """Forbid those calls for this thread, and every one that it starts, permanently.

    Raises OSError if ``can_filter`` is False.
    """
    known = _ARCHITECTURES.get(platform.machine())
    if known is None:
        raise OSError(errno.ENOSYS, f"no list of system calls for {platform.machine()}")
    program = _program(known)
    code = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_program, 0, 0))


def _program(known: _Architecture) -> bytes:
    """Build the filter: each block either answers or falls through."""
    refused = _answer(errno.EPERM)
    parts = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_IF_EQUAL, known.audit, yes=1),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NUMBER),
        _step(_IF_ANY_BIT, _OTHER_NUMBERS, no=1),
        refused,
        _step(_IF_EQUAL, _CLONE3, no=1),
        _answer(errno.ENOSYS),
    ]
    for number in (*known.refused, *_REFUSED_EVERYWHERE):
        parts += [_step(_IF_EQUAL, number, no=1), refused]
    clone = [_load_argument(0), _step(_IF_ANY_BIT, _CLONE_NEW_NAMESPACES, no=1), refused]
    parts += [_step(_IF_EQUAL, known.clone, no=len(clone)), *clone]
    parts.append(_step(_RETURN, _ALLOW))
    return b"".join(parts)


def _load_argument(index: int) -> bytes:
    """Load the lower half, which is all that the kernel takes of an int; both architectures are little-endian."""
    return _step(_LOAD, _ARGUMENTS + 8 * index)


def _answer(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """Build one instruction: struct sock_filter. ``yes`` and ``no`` are how many instructions a comparison skips."""
    return struct.pack("=HBBI", code, yes, no, value)

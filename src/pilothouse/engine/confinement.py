"""TCP for this thread and those it starts: one port of this machine, and nothing else.

The Helm library's HTTP client goes to loopback addresses past every proxy (Go: net/http, ProxyFromEnvironment), so a
redirect could still lead it to services of this machine. Landlock closes that, where the kernel has it: Linux 6.7 and
newer. Source: Linux, Documentation/userspace-api/landlock.rst.
"""

import ctypes
import os
import struct
from typing import Final

_FIRST_ABI_WITH_TCP: Final = 4
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG: Final = 1
_RULE_NET_PORT: Final = 2
_BIND_TCP, _CONNECT_TCP = 1, 2
_PR_SET_NO_NEW_PRIVS: Final = 38

_libc = ctypes.CDLL(None, use_errno=True)


def can_confine() -> bool:
    """Whether this kernel knows rules for TCP."""
    version: int = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    return version >= _FIRST_ABI_WITH_TCP


def confine_to_port(port: int) -> None:
    """From here on this thread, and every one that it starts, connects to that port only and listens on none.

    Threads that run already stay free. Raises OSError where ``can_confine`` is False.
    """
    rules = struct.pack("=QQ", 0, _BIND_TCP | _CONNECT_TCP)
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, rules, len(rules), 0))
    try:
        rule = struct.pack("=QQ", _CONNECT_TCP, port)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_NET_PORT, rule, 0))
        _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

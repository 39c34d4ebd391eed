"""Becomes the Helm engine: binds this process to its parent and its limits, then executes the program of ``engine/``.

Started by ``process`` as ``python -m pilothouse.engine.launcher OPTIONS SANDBOX``. The settings made here survive the
exec: the parent-death signal, the limits, the OOM score and the sandbox. Environment variables for Python are dropped.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pilothouse.engine.landlock import checked
from pilothouse.engine.sandbox import Sandbox, leave_root, restrict

#: The name by which Helm knows itself to the API server: its releases and those of the CLI have one field manager.
FIELD_MANAGER: Final = "helm"
PROGRAM: Final = Path(__file__).parent / "bin" / "helm"

_PR_SET_PDEATHSIG: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Execute the program; never returns."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    sandbox = Sandbox(**json.loads(sys.argv[2]))
    bind_to_parent(options["parent_pid"])
    apply_limits(memory_bytes=options["memory_bytes"], file_bytes=options["file_bytes"])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Opened before it is given up: the account that we become may not pass through the folders above it.
    program = os.open(PROGRAM, os.O_RDONLY | os.O_CLOEXEC)
    restrict(replace(sandbox, readable=()))
    leave_root(sandbox, parent_pid=options["parent_pid"])
    os.execve(program, [FIELD_MANAGER, sys.argv[1]], environment)  # noqa: S606 - our own program, our own options


def bind_to_parent(pid: int) -> None:
    """Die with the parent; exit if it is already gone."""
    checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != pid:
        sys.exit(1)


def apply_limits(*, memory_bytes: int, file_bytes: int) -> None:
    """Limit address space and file size permanently, disable core dumps, and be the OOM killer's first choice."""
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _limit(which: int, limit: int) -> None:
    """Set a limit permanently, or keep a stricter existing one."""
    hard = resource.getrlimit(which)[1]
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (allowed, allowed))


if __name__ == "__main__":
    main()

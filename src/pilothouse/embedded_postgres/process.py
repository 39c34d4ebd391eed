"""Identifies a running PostgreSQL of ours, and stops it.

A number in a file names a process only until the kernel reuses the number. A process counts as the server of a data
folder if it runs as the folder's owner, executes ``postgres``, and has that folder as its working directory; a process
is signalled only if it was identified like this at that moment. The owner of the data can write postmaster.pid, so root
must not trust it further than that.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pilothouse.errors import DatabaseUnavailable

_POLL_SECONDS = 0.02
_DELETED = " (deleted)"


@dataclass(frozen=True)
class PidFile:
    """The content of postmaster.pid; ``socket_dir`` and ``ready`` are filled in while the server starts."""

    pid: int
    socket_dir: Path | None
    ready: bool


@dataclass(frozen=True)
class ServerProcess:
    """One process of a PostgreSQL server; ``started`` is the kernel's start time, which no successor shares."""

    pid: int
    started: int

    def is_running(self) -> bool:
        """Return True while this process lives; a zombie, or a successor with its number, does not count."""
        return _start_time(self.pid) == self.started

    def has_deleted_program(self) -> bool:
        """Return True if its executable was removed or replaced on disk, so its libraries may be gone too."""
        return _link(self.pid, "exe").endswith(_DELETED)

    def send(self, number: signal.Signals) -> None:
        """Send the signal to this process or to none."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        except OSError:  # a kernel before 5.3: what remains is a window of microseconds
            if self.is_running():
                os.kill(self.pid, number)
            return
        try:
            if self.is_running():
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return
        finally:
            os.close(handle)

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the process to end; return False if it still runs."""
        deadline = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def read_pid_file(data: Path) -> PidFile | None:
    """Return the content of postmaster.pid, or None if there is none or it names no process."""
    try:
        lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
        pid = int(lines[0])
    except (OSError, IndexError, ValueError):
        return None
    if pid <= 1:
        return None
    socket_dir = Path(lines[4]) if len(lines) > 4 and lines[4].startswith("/") else None  # noqa: PLR2004 (line 5 of the file)
    return PidFile(pid, socket_dir, ready=lines[-1].strip() == "ready")


def find_postmaster(data: Path, uid: int) -> ServerProcess | None:
    """Return the server that runs on this data folder now; None if there is none, whatever postmaster.pid says."""
    recorded = read_pid_file(data)
    return _identify(recorded.pid, data, uid) if recorded else None


def stop_postmaster(server: ServerProcess, *, seconds: float) -> None:
    """Stop the server: fast shutdown (sessions cut, everything written), then immediate, then SIGKILL."""
    for number, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)):
        server.send(number)
        if server.wait(patience):
            return


def end_orphans(data: Path, uid: int) -> bool:
    """Return True when no process works on the data folder any more, False if a server appeared on it meanwhile.

    The processes of a killed postmaster notice its death at their next wait. One that is computing does not, and a new
    server at the same time would corrupt the data: it gets a termination signal, and SIGKILL in the end.
    """
    for number, patience in ((None, 2.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 5.0)):
        orphans = list(_processes(data, uid))
        deadline = time.monotonic() + patience
        while orphans:
            if find_postmaster(data, uid) is not None:
                return False
            if number is not None:
                for orphan in orphans:
                    orphan.send(number)
            if time.monotonic() >= deadline:
                break
            time.sleep(_POLL_SECONDS)
            orphans = list(_processes(data, uid))
        else:
            return True
    raise DatabaseUnavailable(
        f"processes of an earlier PostgreSQL still work on {data} and cannot be killed "
        f"({', '.join(str(orphan.pid) for orphan in orphans)}): see what they wait for, often a dead disk"
    )


def remove_stale_pid_file(data: Path) -> None:
    """Remove a postmaster.pid whose number another process has now; call it only if no server runs.

    PostgreSQL itself ignores a file whose process is gone, and refuses to start if the number is in use by a process of
    the same account, or by a zombie that nobody reaps.
    """
    recorded = read_pid_file(data)
    if recorded is not None and Path(f"/proc/{recorded.pid}").exists():
        (data / "postmaster.pid").unlink(missing_ok=True)


def _processes(data: Path, uid: int) -> Iterator[ServerProcess]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            process = _identify(int(entry.name), data, uid)
            if process is not None:
                yield process


def _identify(pid: int, data: Path, uid: int) -> ServerProcess | None:
    if _link(pid, "exe").removesuffix(_DELETED).rpartition("/")[2] != "postgres":
        return None
    started = _start_time(pid)
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        # The folder itself, not its name: it may have been renamed or mounted elsewhere since.
        same_folder = os.path.samestat(os.stat(f"/proc/{pid}/cwd"), os.stat(data))  # noqa: PTH116 (a magic link)
    except OSError:
        return None
    effective = re.search(r"^Uid:\s+\d+\s+(\d+)", status, re.MULTILINE)
    if started is None or not same_folder or effective is None or int(effective.group(1)) != uid:
        return None
    process = ServerProcess(pid, started)
    return process if process.is_running() else None


def process_of(pid: int) -> ServerProcess | None:
    """Return the process that has this number now; safe for an unreaped child of ours."""
    started = _start_time(pid)
    return None if started is None else ServerProcess(pid, started)


def _start_time(pid: int) -> int | None:
    """Return the kernel's start time in clock ticks since boot; None for no process and for a zombie."""
    try:
        # The name in parentheses may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in {"Z", "X", "x"} else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _link(pid: int, name: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/{name}").readlink())
    except OSError:
        return ""

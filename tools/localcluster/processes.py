"""Starts, recognises and stops the components' processes. Linux only: it reads /proc.

A component outlives the command that started it. It is known again by its pid together with its start time, so a pid
that the kernel has given to another program since is never signalled. Each also carries a mark in its environment, by
which a component whose pid file is lost (a deleted folder, a kill between start and note) is found.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.localcluster.errors import StartError
from tools.localcluster.folders import write_private

MARK = "LOCALCLUSTER_MARK"
PROC = Path("/proc")
_LAUNCH = 'exec "$@" >>"$LOG" 2>&1 </dev/null & echo "$!"'
"""The shell ends at once, so the component belongs to init, and no long-lived Python process has to reap it."""


@dataclass(frozen=True)
class Process:
    """A process that can be told apart from any later one with the same pid."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return _start_time(self.pid) == self.started

    def stop(self, *, grace: float) -> bool:
        """Ask the process to stop, and kill it after `grace` seconds. Return False if it had to be killed."""
        if self._gone_after(signal.SIGTERM, seconds=grace):
            return True
        self._gone_after(signal.SIGKILL, seconds=10)
        return False

    def _gone_after(self, number: signal.Signals, *, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with contextlib.suppress(ProcessLookupError):
            if self.alive():
                os.kill(self.pid, number)
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def start(
    command: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path, log: Path, pid_file: Path, mark: str
) -> Process:
    """Start a process in a session of its own, which outlives this one; `pid_file` has its id, `log` its output.

    Raises StartError when the program is gone before it could be noted.
    """
    done = subprocess.run(
        ["/bin/sh", "-c", _LAUNCH, "sh", *command],
        env={**environment, MARK: mark, "LOG": str(log)},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    pid = int(done.stdout)
    started = _start_time(pid)
    if started is None:
        raise StartError(f"{Path(command[0]).name} ended at once")
    write_private(pid_file, json.dumps({"pid": pid, "started": started}).encode())
    return Process(pid, started)


def noted(pid_file: Path) -> Process | None:
    """Return the process that `pid_file` tells of, alive or not; None without a file that can be read."""
    try:
        content = json.loads(pid_file.read_bytes())
        return Process(int(content["pid"]), str(content["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def marked(mark: str) -> list[Process]:
    """Every process of this user that was started with this mark, the latest first, as they are to be stopped."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            # Somebody else's, or gone since.
            continue
        started = _start_time(int(entry.name)) if wanted in environment.split(b"\0") else None
        if started is not None:
            found.append(Process(int(entry.name), started))
    return sorted(found, key=lambda process: int(process.started.rpartition("/")[2]), reverse=True)


def _start_time(pid: int) -> str | None:
    """When the process started: the boot's identity and the ticks since. None when it has ended, even as a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The second field is the program's name in brackets and may itself hold spaces and brackets.
    fields = stat.rpartition(")")[2].split()
    state, threads, start_ticks = fields[0], int(fields[17]), fields[19]
    # Killed, a process is a zombie before its last thread has let go of its ports and files.
    return None if state in "ZX" and threads <= 1 else f"{boot}/{start_ticks}"

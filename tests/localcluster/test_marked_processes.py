"""Programs that are started beside the local cluster."""

import os
import signal
import time
from pathlib import Path

from pilothouse.settings import unknown_variables
from tools.localcluster import processes


def test_a_server_started_with_a_mark_is_given_no_setting_that_it_refuses(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")}
    process = processes.start(
        ["sleep", "60"],
        environment=clean,
        folder=tmp_path,
        log=tmp_path / "log",
        pid_file=tmp_path / "pid",
        mark=str(tmp_path),
    )
    try:
        given = _environment(process.pid)
    finally:
        os.kill(process.pid, signal.SIGKILL)
    assert given[processes.MARK] == str(tmp_path)
    assert unknown_variables(given) == {}


def _environment(pid: int) -> dict[str, str]:
    """Return the environment of a process, once it runs its program rather than the shell that starts it."""
    deadline = time.monotonic() + 10
    while (Path("/proc") / str(pid) / "comm").read_text().strip() != "sleep":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    entries = (Path("/proc") / str(pid) / "environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)

"""A supervisor in a process of its own, with what it has told so far; for tests of how it keeps parts."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SUPERVISE = """
import asyncio, json, os, sys, threading, time
from pathlib import Path
from pilothouse.errors import PilothouseError
from pilothouse.keepers import ManagedProcess, WatchedService
from pilothouse.liveness import Liveness
from pilothouse.supervisor import Supervisor
import structlog

structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

class Files:
    \"\"\"A service that lives as long as a file does; its start waits for a stop when a file "slow" lies there.\"\"\"
    def __init__(self, path):
        self.path, self.stopped = Path(path), threading.Event()
    def start(self):
        if self.path.with_name("slow").exists() and self.stopped.wait(20):
            raise PilothouseError("interrupted")
        self.path.touch()
    def is_alive(self):
        return self.path.exists()
    def stop(self):
        self.stopped.set()
        self.path.unlink(missing_ok=True)

def wait_for(path):
    async def wait():
        while not Path(path).exists():
            await asyncio.sleep(0.01)
    return wait

def part(spec):
    spec = dict(spec)
    if "service" in spec:
        return WatchedService(name=spec["name"], service=Files(spec["service"]), watch_seconds=0.05)
    if "ready_file" in spec:
        spec["wait_until_ready"] = wait_for(spec.pop("ready_file"))
    if "liveness" in spec:
        spec["liveness"] = Liveness(**spec["liveness"])
    if spec.pop("asks_env", False):
        spec["env"] = lambda: {**os.environ, "STARTED_AT": str(time.monotonic())}
    return ManagedProcess(**spec)

def tell(event):
    print(json.dumps([time.monotonic(), event.kind, event.part, event.pid, event.detail]), flush=True)
    if event.part == "noisy":
        raise OSError("the terminal is gone")

specs = json.loads(sys.argv[1])
try:
    Supervisor([part(spec) for spec in specs], on_event=tell).run()
except PilothouseError as error:
    print(json.dumps([time.monotonic(), "raised", "", None, str(error)]), flush=True)
    sys.exit(3)
"""


class Supervised:
    """A running supervisor, and what it has told so far."""

    def __init__(self, specs: list[dict[str, Any]]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SUPERVISE, json.dumps(specs)], stdout=subprocess.PIPE, text=True
        )
        self.told: list[tuple[float, str, str, int | None, str]] = []

    def until(self, kind: str, part: str = "", times: int = 1) -> tuple[float, str, str, int | None, str]:
        """Read on until this was told so many times, counted from the beginning."""
        while True:
            matching = [event for event in self.told if event[1] == kind and event[2] == part]
            if len(matching) >= times:
                return matching[times - 1]
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line, f"the supervisor ended before {kind} {part}: {self.told}"
            self.told.append(tuple(json.loads(line)))

    def pid(self, part: str, times: int = 1) -> int:
        pid = self.until("part_started", part, times)[3]
        assert pid is not None
        return pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signals it, reads what is left and gives its exit code."""
        self.process.send_signal(number)
        return self.rest()

    def rest(self) -> int:
        assert self.process.stdout is not None
        self.told += [tuple(json.loads(line)) for line in self.process.stdout]
        return self.process.wait(timeout=10)

    def order(self, kind: str) -> list[str]:
        return [event[2] for event in self.told if event[1] == kind]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)

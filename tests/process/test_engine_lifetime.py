"""No child outlives the process it works for, nor works on while that process is frozen."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pilothouse.engine.child_options import ChildOptions
from pilothouse.engine.environment import child_environment, command_line
from pilothouse.engine.sandbox import Sandbox

_PARENT = """
import asyncio, sys
from pathlib import Path
from typing import Any
from pilothouse.engine.protocol import RenderNameRequest
from pilothouse.engine.deadline import Fence, boottime
from pilothouse.engine.pool import EnginePool
from pilothouse.settings import EngineSettings

async def main():
    pool = EnginePool(EngineSettings(children=1), state_dir=Path(sys.argv[1]))
    await pool.start()
    (child,) = pool._children
    fence = Fence(boottime() + 1.5)

    async def renew():
        while True:
            fence.extend(boottime() + 1.5)
            await asyncio.sleep(0.1)

    renewals = asyncio.create_task(renew())
    if sys.argv[2] == "busy":
        template = "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"
        work = pool.run(RenderNameRequest(template=template), deadline_seconds=100, fence=fence)
    else:
        work = asyncio.sleep(100)
    asyncio.get_running_loop().call_later(0.3, lambda: print(child.pid, flush=True))
    await work

asyncio.run(main())
"""


@pytest.fixture
def start_parent(tmp_path: Path) -> Iterator[Callable[[str], "tuple[subprocess.Popen[str], int]"]]:
    parents = []

    def start(state: str) -> "tuple[subprocess.Popen[str], int]":
        parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT, str(tmp_path), state], stdout=subprocess.PIPE, text=True
        )
        parents.append(parent)
        assert parent.stdout is not None
        return parent, int(parent.stdout.readline())

    yield start
    for parent in parents:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _dies_within(pid: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not _alive(pid):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_child_dies_with_its_parent(start_parent: Callable[[str], "tuple[subprocess.Popen[str], int]"], state: str):
    parent, child = start_parent(state)
    assert _alive(child)
    parent.kill()
    parent.wait()
    assert _dies_within(child, 2)


def test_a_working_child_ends_itself_when_its_parent_is_frozen(
    start_parent: Callable[[str], "tuple[subprocess.Popen[str], int]"],
):
    parent, child = start_parent("busy")
    time.sleep(2)
    assert _alive(child), "renewals must keep it alive past the first limit"
    os.kill(parent.pid, signal.SIGSTOP)
    frozen = time.monotonic()
    assert _dies_within(child, 4)
    assert 0.5 < time.monotonic() - frozen < 2.5


def test_a_frozen_child_ends_itself_when_it_wakes_up_too_late(
    start_parent: Callable[[str], "tuple[subprocess.Popen[str], int]"],
):
    parent, child = start_parent("busy")
    os.kill(parent.pid, signal.SIGSTOP)
    os.kill(child, signal.SIGSTOP)
    time.sleep(2)
    assert _alive(child)
    os.kill(child, signal.SIGCONT)
    assert _dies_within(child, 0.5)


def test_a_child_started_for_another_parent_does_not_begin(tmp_path: Path):
    numbers: dict[str, Any] = {each.name: 1 for each in fields(ChildOptions)}
    options = ChildOptions(**{**numbers, "qps": 1.0})
    done = subprocess.run(
        [sys.executable, *command_line(options, Sandbox(folder=str(tmp_path)))[1:]],
        env=child_environment(tmp_path, memory_bytes=2**30),
        check=False,
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.stderr == b""
    assert done.returncode == 1
    assert done.stdout == b""

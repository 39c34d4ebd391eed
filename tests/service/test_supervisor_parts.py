"""The supervisor keeps real processes running and ends them; it runs in a process of its own, judged by the kernel."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.supervised import Supervised, gone, until

_ARMED = """
import sys, time
from pathlib import Path
from pilothouse.liveness import die_with_parent

die_with_parent(int(sys.argv[1]))
Path(sys.argv[2]).touch()
time.sleep(60)
"""

_IGNORES_TERM = "trap '' TERM; sleep 60 & echo $! > '{path}.new'; mv '{path}.new' '{path}'; while :; do sleep 0.2; done"


def _sleeper(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "argv": ["sleep", "60"], **more}


def test_a_killed_part_is_started_again(supervise: Callable[..., Supervised]):
    supervised = supervise(_sleeper("api"), _sleeper("worker"))
    first = supervised.pid("api")
    worker = supervised.pid("worker")
    os.kill(first, signal.SIGKILL)

    assert supervised.until("part_died", "api")[4] == "signal SIGKILL"
    second = supervised.pid("api", times=2)

    assert not gone(second)
    assert not gone(worker)
    assert supervised.end() == 0
    assert gone(second)


def test_a_part_that_keeps_dying_is_started_ever_more_slowly(supervise: Callable[..., Supervised]):
    supervised = supervise({"name": "api", "argv": ["sh", "-c", "exit 7"]})

    assert supervised.until("part_died", "api", times=4)[4] == "exit code 7"
    starts = [supervised.until("part_started", "api", times)[0] for times in range(2, 5)]
    deaths = [supervised.until("part_died", "api", times)[0] for times in range(1, 4)]

    pauses = [start - death for start, death in zip(starts, deaths, strict=True)]
    assert all(pause >= expected for pause, expected in zip(pauses, [0.1, 0.2, 0.4], strict=True)), pauses
    assert sum(pauses) < 4


def test_a_part_starts_when_the_one_before_is_ready(supervise: Callable[..., Supervised], tmp_path: Path):
    ready = tmp_path / "ready"
    first = {"name": "api", "argv": ["sh", "-c", f"sleep 0.3; touch '{ready}'; sleep 60"], "ready_file": str(ready)}
    supervised = supervise(first, _sleeper("worker"))

    supervised.pid("worker")

    kinds = [(event[1], event[2]) for event in supervised.told]
    assert kinds.index(("part_ready", "api")) < kinds.index(("part_started", "worker"))
    assert ready.exists()


def test_parts_stop_in_reverse_order_each_after_the_next_has_ended(supervise: Callable[..., Supervised]):
    slow = ["sh", "-c", "trap 'sleep 0.2; exit 0' TERM; while :; do sleep 0.05; done"]
    supervised = supervise(*({"name": name, "argv": slow} for name in ("api", "worker", "observer")))
    supervised.until("part_ready", "observer")
    time.sleep(0.1)  # for the shells to set their traps

    assert supervised.end() == 0

    ends = [event[1:3] for event in supervised.told if event[1] in {"part_stopping", "part_stopped", "part_killed"}]
    assert ends == [
        (kind, name) for name in ("observer", "worker", "api") for kind in ("part_stopping", "part_stopped")
    ]


def test_a_part_that_ignores_term_is_killed_with_its_group(supervise: Callable[..., Supervised], tmp_path: Path):
    grandchild = tmp_path / "grandchild"
    argv = ["sh", "-c", _IGNORES_TERM.format(path=grandchild)]
    supervised = supervise({"name": "api", "argv": argv, "stop_seconds": 0.3})
    pid = supervised.pid("api")
    until(grandchild.exists)

    began = time.monotonic()
    assert supervised.end() == 0

    assert 0.3 <= time.monotonic() - began < 5
    assert supervised.order("part_killed") == ["api"]
    assert gone(pid)
    until(lambda: gone(int(grandchild.read_text())))


def test_a_second_signal_does_not_wait(supervise: Callable[..., Supervised], tmp_path: Path):
    argv = ["sh", "-c", _IGNORES_TERM.format(path=tmp_path / "grandchild")]
    supervised = supervise({"name": "api", "argv": argv, "stop_seconds": 60.0})
    until((tmp_path / "grandchild").exists)

    supervised.process.send_signal(signal.SIGINT)
    supervised.until("part_stopping", "api")
    began = time.monotonic()
    assert supervised.end(signal.SIGINT) == 0

    assert time.monotonic() - began < 5


def test_what_a_dead_part_left_is_gone_before_it_starts_again(supervise: Callable[..., Supervised], tmp_path: Path):
    left = tmp_path / "left"
    supervised = supervise({"name": "api", "argv": ["sh", "-c", f"sleep 60 & echo $! > '{left}'; wait"]})
    until(lambda: left.exists() and bool(left.read_text()))
    remains = int(left.read_text())

    os.kill(supervised.pid("api"), signal.SIGKILL)
    supervised.until("part_started", "api", times=2)

    until(lambda: gone(remains), seconds=1)


def test_children_die_when_the_supervisor_is_killed(tmp_path: Path, supervise: Callable[..., Supervised]):
    # The child learns the supervisor's number as the real parts do: as an argument; here the shell puts it in.
    argv = ["sh", "-c", 'exec "$0" -c "$1" $PPID "$2"', sys.executable, _ARMED, str(tmp_path / "armed")]
    supervised = supervise({"name": "api", "argv": argv})
    pid = supervised.pid("api")
    until((tmp_path / "armed").exists, seconds=10)

    supervised.process.kill()

    until(lambda: gone(pid))


def test_a_child_whose_parent_is_gone_already_dies_at_once(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", _ARMED, "1", tmp_path / "armed"], check=False, timeout=10)

    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "armed").exists()


def test_a_part_that_never_gets_ready_ends_the_start_and_the_parts_before(
    supervise: Callable[..., Supervised], tmp_path: Path
):
    broken = {"name": "worker", "argv": ["sh", "-c", "exit 4"], "ready_file": str(tmp_path / "never")}
    supervised = supervise(_sleeper("api"), broken, _sleeper("observer"))

    assert supervised.rest() == 3

    assert supervised.told[-1][4] == "the part worker ended 3 times before it was ready, at last with exit code 4"
    assert supervised.order("part_stopped") == ["api"]
    assert "observer" not in supervised.order("part_started")
    assert gone(supervised.pid("api"))


def test_a_part_that_hangs_before_it_is_ready_ends_the_start(supervise: Callable[..., Supervised], tmp_path: Path):
    supervised = supervise(_sleeper("api", ready_file=str(tmp_path / "never"), ready_seconds=0.2))

    assert supervised.rest() == 3

    assert "did not become ready: not ready after 0.2 s" in supervised.told[-1][4]
    assert gone(supervised.pid("api"))


def test_a_part_that_is_ready_too_late_once_started_again_is_told_to_be_ready_then(
    supervise: Callable[..., Supervised], tmp_path: Path
):
    ready = tmp_path / "ready"
    ready.touch()
    supervised = supervise(_sleeper("api", ready_file=str(ready), ready_seconds=0.5))
    supervised.until("part_ready", "api")
    ready.unlink()
    os.kill(supervised.pid("api"), signal.SIGKILL)
    assert supervised.until("part_not_ready", "api")[4] == "not ready after 0.5 s"

    ready.touch()

    second = supervised.pid("api", times=2)
    assert supervised.until("part_ready", "api", times=2)[3] == second
    assert supervised.end() == 0


def test_a_program_that_does_not_exist_is_named(supervise: Callable[..., Supervised], tmp_path: Path):
    supervised = supervise({"name": "api", "argv": ["/nowhere/api"], "ready_file": str(tmp_path / "never")})

    assert supervised.rest() == 3

    assert "No such file or directory: '/nowhere/api'" in supervised.told[-1][4]


def test_a_stop_during_the_start_ends_what_was_started(supervise: Callable[..., Supervised], tmp_path: Path):
    supervised = supervise(_sleeper("api"), _sleeper("worker", ready_file=str(tmp_path / "never")), _sleeper("late"))
    pids = [supervised.pid("api"), supervised.pid("worker")]

    assert supervised.end() == 0

    assert all(gone(pid) for pid in pids)
    assert "late" not in supervised.order("part_started")


def test_a_service_is_started_again_when_it_is_dead_and_stopped_last(
    supervise: Callable[..., Supervised], tmp_path: Path
):
    alive = tmp_path / "alive"
    supervised = supervise({"name": "database", "service": str(alive)}, _sleeper("api"))
    supervised.pid("api")
    assert alive.exists()

    alive.unlink()
    supervised.until("part_ready", "database", times=2)
    assert alive.exists()
    assert supervised.end() == 0

    assert not alive.exists()
    assert supervised.order("part_stopped") == ["api", "database"]


def test_a_stop_interrupts_the_start_of_a_service(supervise: Callable[..., Supervised], tmp_path: Path):
    (tmp_path / "slow").touch()
    supervised = supervise({"name": "database", "service": str(tmp_path / "alive")}, _sleeper("api"))
    supervised.until("part_started", "database")
    time.sleep(0.1)

    began = time.monotonic()
    assert supervised.end() == 0

    assert time.monotonic() - began < 5
    assert not (tmp_path / "alive").exists()


def test_a_listener_that_fails_does_not_stop_the_parts(supervise: Callable[..., Supervised]):
    supervised = supervise(_sleeper("noisy"))
    os.kill(supervised.pid("noisy"), signal.SIGKILL)
    second = supervised.pid("noisy", times=2)

    assert supervised.end() == 0

    assert gone(second)


def test_the_environment_is_asked_for_at_every_start(supervise: Callable[..., Supervised], tmp_path: Path):
    argv = ["sh", "-c", f"echo $STARTED_AT >> '{tmp_path / 'seen'}'; sleep 60"]
    supervised = supervise({"name": "api", "argv": argv, "asks_env": True})
    until((tmp_path / "seen").exists)
    os.kill(supervised.pid("api"), signal.SIGKILL)
    supervised.pid("api", times=2)
    until(lambda: len((tmp_path / "seen").read_text().split()) == 2)

    first, second = (float(value) for value in (tmp_path / "seen").read_text().split())
    assert second > first


def test_a_quiet_supervisor_uses_no_processor_time(supervise: Callable[..., Supervised], tmp_path: Path):
    supervised = supervise(_sleeper("api"), {"name": "database", "service": str(tmp_path / "alive")})
    supervised.until("part_ready", "database")

    def ticks() -> int:
        fields = Path(f"/proc/{supervised.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(1)

    assert ticks() - before <= 0.1 * os.sysconf("SC_CLK_TCK")

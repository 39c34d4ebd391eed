"""A part that hangs is killed and started again; one that is slow, or was stopped with the whole machine, is not."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.supervised import Supervised, gone, until

#: What a part does once it has answered for a moment; its regular expression holds the interpreter's lock for hours.
_HANGS = {
    "loop": "import re; re.match('(a+)+$', 'a' * 64 + 'b')",
    "deadlock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "stop": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
}

_PART = """
import asyncio, time
from pilothouse.liveness import answering

async def work():
    with answering() as ready:
        await asyncio.sleep({answers_seconds})
        {then}
        await asyncio.sleep(60)

time.sleep({starts_seconds})
asyncio.run(work())
"""


def _part(
    then: str = "pass", *, starts_seconds: float = 0, answers_seconds: float = 1.5, start_limit: float = 60
) -> dict[str, Any]:
    program = _PART.format(then=then, starts_seconds=starts_seconds, answers_seconds=answers_seconds)
    limits = {"silent_seconds": 3.0, "start_seconds": start_limit}
    return {"name": "api", "argv": [sys.executable, "-c", program], "liveness": limits, "stop_seconds": 1.0}


@pytest.mark.parametrize("how", _HANGS)
def test_a_part_that_hangs_is_killed_and_started_again(supervise: Callable[..., Supervised], how: str):
    supervised = supervise(_part(_HANGS[how]))
    first = supervised.pid("api")

    assert supervised.until("part_silent", "api")[3:] == (first, "no answer for 3 s")
    assert supervised.until("part_died", "api")[4] == "signal SIGKILL"
    second = supervised.pid("api", times=2)

    assert gone(first)
    assert not gone(second)
    assert supervised.end() == 0


def test_a_part_is_ready_when_it_says_so_and_not_when_it_runs(supervise: Callable[..., Supervised]):
    supervised = supervise(_part("ready()", answers_seconds=2.5), _part() | {"name": "worker"})
    started = supervised.until("part_started", "api")[0]

    assert supervised.until("part_ready", "api")[0] - started >= 2.5
    supervised.pid("worker")
    time.sleep(2.5)

    assert supervised.end() == 0
    assert supervised.order("part_ready") == ["api"]


def test_a_part_that_starts_slowly_is_left_alone(supervise: Callable[..., Supervised]):
    supervised = supervise(_part(starts_seconds=6))
    supervised.pid("api")

    time.sleep(8)

    assert supervised.end() == 0
    assert supervised.order("part_silent") == []


def test_a_part_that_never_answers_is_killed_after_the_time_that_a_start_may_take(
    supervise: Callable[..., Supervised],
):
    supervised = supervise(_part(starts_seconds=60, start_limit=4))

    assert supervised.until("part_silent", "api")[4] == "no answer for 4 s"


def test_a_pause_of_everything_kills_nothing(supervise: Callable[..., Supervised]):
    supervised = supervise(_part())
    part = supervised.pid("api")
    time.sleep(2.5)  # it has answered

    for pid in (supervised.process.pid, part):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(6)
    os.kill(supervised.process.pid, signal.SIGCONT)  # the supervisor looks before the part is awake
    time.sleep(1)
    os.kill(part, signal.SIGCONT)
    time.sleep(4)

    assert not gone(part)
    assert supervised.end() == 0
    assert supervised.order("part_silent") == []


def test_a_part_that_is_killed_while_it_is_asked_is_no_silent_one(supervise: Callable[..., Supervised]):
    supervised = supervise(_part())
    time.sleep(2.5)
    os.kill(supervised.pid("api"), signal.SIGKILL)
    second = supervised.pid("api", times=2)

    until(lambda: not gone(second))
    assert supervised.end() == 0
    assert supervised.order("part_silent") == []

"""What happens to our processes and their lines: killed, stopped for a while, cut off, slowed down.

A fault is struck while a request is frozen at a point, so that it strikes at exactly that moment. Most faults end by
themselves after a while; a worker that was stopped wakes up after its work was taken over.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.crash.deployment import CLUSTER, DATABASE, LEASE_SECONDS, Deployment, Member

#: Long enough for a lease to end, its margin included, and for the sweep that follows.
LONG = LEASE_SECONDS + 1.6
SHORT = 0.8

Until = Literal["at once", "a while", "taken over"]


@dataclass(frozen=True)
class Fault:
    """One fault. ``until`` says when it ends; only then may the frozen request go on, unless that is ``at once``."""

    name: str
    strike: Callable[[Deployment, Member], None]
    undo: Callable[[Deployment, Member], None] = lambda _deployment, _worker: None
    until: Until = "at once"
    seconds: float = 0.0
    #: Processes are killed.
    kills: bool = False
    #: Processes are frozen and wake up: what they had sent, or send before they can look at a clock, may still arrive.
    wakes: bool = False

    def __str__(self) -> str:
        return self.name


def _signal(number: signal.Signals, *whom: str) -> Callable[[Deployment, Member], None]:
    def send(deployment: Deployment, worker: Member) -> None:
        for one in whom:
            for pid in _pids(deployment, worker, one):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGKILL and one in {"api", "observer", "worker"}:
                _restart(deployment, worker, one)

    return send


def _pids(deployment: Deployment, worker: Member, what: str) -> list[int]:
    match what:
        case "worker":
            return [worker.pid] if worker.alive() else []
        case "child":
            return worker.children()
        case "postgres":
            return _postgres_pids(deployment)
        case _:
            return [deployment.member(what).pid]


def _lose(_: Deployment, worker: Member) -> None:
    worker.end()


def _restart(deployment: Deployment, worker: Member, what: str) -> None:
    """As a supervisor does it, and as slowly: the others have taken over long before it works."""
    member = worker if what == "worker" else deployment.member(what)
    if member.alive():
        member.wait_for_death()
    member.start()


def _postgres_pids(deployment: Deployment) -> list[int]:
    first = deployment.postgres.pid
    if first is None:
        return []
    below = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [first, *map(int, below)]


def _kill_postgres(deployment: Deployment, _: Member) -> None:
    pid = deployment.postgres.pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def _start_postgres(deployment: Deployment, _: Member) -> None:
    deployment.postgres.start()


def _drain(_: Deployment, worker: Member) -> None:
    worker.signal(signal.SIGTERM)


def _flow(listener: str, state: Literal["pass", "cut", "freeze"], latency: float = 0.0) -> Callable[..., None]:
    return lambda deployment, _worker: deployment.proxy.flow(listener, state, latency=latency)


def _kill(*whom: str) -> Fault:
    # The child first: it dies with its worker, and then cannot be found any more.
    order = sorted(whom, key=("child", "worker", "api", "observer").index)
    return Fault(f"kill {' and '.join(whom)}", _signal(signal.SIGKILL, *order), kills=True)


def _stop(*whom: str, until: Until, seconds: float = 0.0) -> Fault:
    return Fault(
        f"stop {' and '.join(whom)}",
        _signal(signal.SIGSTOP, *whom),
        _signal(signal.SIGCONT, *whom),
        until=until,
        seconds=seconds,
        wakes=True,
    )


FAULTS = (
    _kill("worker"),
    _kill("child"),
    _kill("worker", "child"),
    _kill("api"),
    _kill("observer"),
    Fault("kill postgres", _kill_postgres, _start_postgres, until="a while", seconds=SHORT, kills=True),
    _stop("worker", until="taken over", seconds=LONG),
    _stop("child", until="a while", seconds=LONG),
    _stop("worker", "child", until="taken over", seconds=LONG),
    _stop("api", until="a while", seconds=SHORT),
    _stop("observer", until="a while", seconds=SHORT),
    _stop("postgres", until="a while", seconds=LONG),
    Fault("cut cluster", _flow(CLUSTER, "cut"), _flow(CLUSTER, "pass"), until="a while", seconds=SHORT),
    Fault("delay cluster", lambda _deployment, _worker: None, until="a while", seconds=LONG),
    Fault("freeze cluster", _flow(CLUSTER, "freeze"), _flow(CLUSTER, "pass"), until="a while", seconds=LONG),
    Fault("cut database", _flow(DATABASE, "cut"), _flow(DATABASE, "pass"), until="a while", seconds=SHORT),
    Fault("slow database", _flow(DATABASE, "pass", 0.2), until="at once"),
    Fault("freeze database", _flow(DATABASE, "freeze"), _flow(DATABASE, "pass"), until="a while", seconds=LONG),
    Fault("drain worker", _drain),
)

#: A machine that is gone: nobody starts the worker again before ``mend``, so that another one has to take over.
LOSE = Fault("lose worker and child", _lose, kills=True)

BY_NAME = {fault.name: fault for fault in (*FAULTS, LOSE)}

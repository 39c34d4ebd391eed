"""One case: an action, a point in its life, a fault that strikes there, and what the oracles say afterwards."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from lightkube import Client

from tests.crash import invariants
from tests.crash.beside import Beside
from tests.crash.deployment import CLUSTER, FINAL, LEASE_SECONDS, Deployment, Member, Noted
from tests.crash.faults import LONG, Fault
from tests.crash.invariants import Ending, Sent
from tests.crash.oracles import AuditLog, Witness
from tests.crash.points import READS, Point
from tests.crash.releases import CANCELS, ActionName, Charts, Release
from tests.support.releases import HelmCommand
from tools.localcluster.faults.rules import Held, How

_LOOK_SECONDS = 0.3
_HALF_SECONDS = 0.5
LATE, THEN, BESIDE = ", which arrives late", ", then ", ", beside a release that waits"


@dataclass(frozen=True)
class Injection:
    """A fault at a point. ``late``: what the point held back reaches the other end when others have ended the work."""

    point: Point
    fault: Fault
    late: bool = False

    def __str__(self) -> str:
        return f"{self.fault} {self.point}" + (LATE if self.late else "")


@dataclass(frozen=True)
class Case:
    """The second blow, if there is one, falls on what the survivor does about the first."""

    action: ActionName
    injection: Injection
    second: Injection | None = None
    seed: int = 0
    #: Another operation of the same workers waits in a hook from before the case until its end.
    beside: bool = False

    def __str__(self) -> str:
        then = f"{THEN}{self.second}" if self.second else ""
        return f"{self.action}: {self.injection}{then}{BESIDE if self.beside else ''} [seed {self.seed}]"


@dataclass
class Verdict:
    """What came of a case."""

    case: Case
    reached: bool = False
    struck: list[Fault] = field(default_factory=list)
    state: str = ""
    attempts: int = 0
    violations: list[str] = field(default_factory=list)
    remainder: list[str] = field(default_factory=list)
    seconds: float = 0.0
    text: str = ""
    #: How the operation beside it ended.
    beside: str = ""


class Sender(threading.Thread):
    """The caller of the API, who may wait for an answer that never comes."""

    def __init__(self, release: Release) -> None:
        super().__init__(daemon=True)
        self.status = 0
        self._release = release
        self.start()

    def run(self) -> None:
        with suppress(httpx2.HTTPError):
            self.status = self._release.send().status_code


@dataclass
class Environment:
    """A deployment, a namespace and the oracles, for one case after the other."""

    charts: Charts
    namespace: str
    api: Client
    helm: HelmCommand
    audit: AuditLog | None
    chart: Path
    undisturbed: float = 3.0
    #: On top of two leases and three times the undisturbed time: two cores for everything, and others on them.
    patience: float = 60.0
    #: How long the point is waited for.
    reach: float = 25.0
    count: int = 0

    @property
    def deployment(self) -> Deployment:
        return self.charts.deployment

    def release(self, action: ActionName, *, prefix: str = "") -> Release:
        """Return a release of a new name."""
        self.count += 1
        return Release(self.charts, self.namespace, f"{prefix or action}-{self.count}", action)

    def witness(self, release: Release) -> Witness:
        """Return the oracles, about this release."""
        return Witness(self.api, self.helm, self.namespace, release.name)


def run_case(environment: Environment, case: Case) -> Verdict:
    """Return the case from its preparation to the verdict; every piece runs again afterwards."""
    verdict = Verdict(case)
    began = time.monotonic()
    release = environment.release(case.action)
    environment.deployment.mend()  # a supervisor would have restarted what ended since the case before
    beside = Beside(environment.api, environment.release("install", prefix="beside")) if case.beside else None
    release.prepare()
    _Run(environment, case, release, verdict, beside).play()
    verdict.seconds = time.monotonic() - began
    return verdict


class _Run:
    def __init__(
        self, environment: Environment, case: Case, release: Release, verdict: Verdict, beside: Beside | None
    ) -> None:
        self._ground = environment
        self._case = case
        self._release = release
        self._verdict = verdict
        self._beside = beside
        self._deployment = environment.deployment
        self._random = random.Random(case.seed)  # noqa: S311 - a seed that can be given again is the point
        self._woke_at: float | None = None
        self._before = {one[0] for one in self._deployment.operations(release.name)}

    def play(self) -> None:
        case, deployment = self._case, self._deployment
        self._mark = deployment.proxy.newest()
        deployment.proxy.arm(case.injection.point.rule(deployment))
        sender = Sender(self._release)
        struck = self._deal(case.injection)
        if struck is not None and case.second is not None:
            self._deal_second(case.second, struck)
        deployment.mend()
        sender.join(70)
        self._settle(sender)
        if self._beside is not None:
            self._settle_beside(self._beside)

    def _deal(self, injection: Injection, *, while_held: Callable[[], None] = lambda: None) -> Member | None:
        """Wait for the point and strike; return the worker that was struck, or None if the point was not reached."""
        deployment = self._deployment
        held = self._wait_held()
        deployment.proxy.disarm()
        if not held:
            return None
        self._verdict.reached = True
        while_held()
        operation = self._operation()
        worker = (deployment.holder(operation) if operation else None) or deployment.workers[0]
        attempt = self._attempt()
        injection.fault.strike(deployment, worker)
        self._verdict.struck.append(injection.fault)
        if injection.fault.until == "at once":
            # What a killed process had sent may have reached the other end, or not.
            self._let_go(held, "cut" if injection.fault.kills and self._random.random() < 0.5 else "pass")
        elif injection.fault.until == "a while" or injection.point.who == "api":
            time.sleep(injection.fault.seconds)
            self._undo(injection.fault, worker)
            self._let_go(held, "pass")
        else:
            self._wait_for_take_over(attempt, until_end=injection.late)
            if injection.point.when == "request" and not injection.late:
                self._let_go(held, "cut")
            # What is not frozen goes on first, while its other half still is.
            self._let_go(held, "pass")
            time.sleep(_HALF_SECONDS)
            self._undo(injection.fault, worker)
        return worker

    def _undo(self, fault: Fault, worker: Member) -> None:
        if fault.wakes:
            self._woke_at = time.time()
        fault.undo(self._deployment, worker)

    def _wait_held(self) -> list[Held]:
        """Return what was frozen at the point; nothing when the operation ended without coming there."""
        until = time.monotonic() + self._ground.reach
        while time.monotonic() < until:
            ended = self._state() in FINAL
            held = self._deployment.proxy.wait_held(_LOOK_SECONDS)
            if held or ended:
                return held
        return []

    def _deal_second(self, injection: Injection, struck: Member) -> None:
        """Strike another worker a second time, at what it does about the first blow."""
        deployment = self._deployment
        others = [one.pid for one in deployment.workers if one is not struck]
        deployment.proxy.arm(injection.point.rule(deployment, only=others))
        self._verdict.reached = False
        self._deal(injection, while_held=struck.start)

    def _let_go(self, held: Sequence[Held], how: How) -> None:
        for one in held:
            self._deployment.proxy.release(one, how)

    def _wait_for_take_over(self, attempt: int, *, until_end: bool) -> None:
        """Return when another attempt has begun to change the cluster, or has ended the operation."""
        until = time.monotonic() + LONG + 20.0
        while time.monotonic() < until:
            if self._state() in FINAL or (not until_end and self._has_written(attempt + 1)):
                return
            time.sleep(0.1)

    def _has_written(self, attempt: int) -> bool:
        """Whether the attempt, or a later one, has changed the cluster."""
        operation = self._operation()
        history = self._deployment.history(operation) if operation else []
        writers = {one.worker_pid for one in history if one.attempt >= attempt}
        return any(
            one.listener == CLUSTER and one.verb not in READS and one.answered and {one.pid, one.parent} & writers
            for one in self._deployment.proxy.exchanges(after=self._mark)
        )

    def _settle(self, sender: Sender) -> None:
        """Wait for the end, and ask the oracles."""
        verdict = self._verdict
        operation = self._operation()
        if operation is None:
            if 200 <= sender.status < 300:
                verdict.violations.append(f"accepted with {sender.status}, and the operation is lost")
            verdict.state = "not accepted"
            return
        self._wait_until_final(operation)
        if self._woke_at is not None:
            time.sleep(LEASE_SECONDS)
        last = self._judge(self._release, operation)
        verdict.state, verdict.attempts = last.state, last.attempt
        verdict.text = self._release.text()

    def _settle_beside(self, beside: Beside) -> None:
        """Let what waited end, like what was tried."""
        self._wait_until_final(beside.operation, meanwhile=beside.let_end)
        self._verdict.beside = self._judge(beside.release, beside.operation, whose="beside it: ").state
        if self._verdict.beside != "succeeded":
            self._verdict.text += f" | beside it: {beside.release.text()}"

    @property
    def _limit(self) -> float:
        return 2 * LEASE_SECONDS + 3 * self._ground.undisturbed + self._ground.patience

    def _wait_until_final(self, operation: str, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        until = time.monotonic() + self._limit
        while self._deployment.history(operation)[-1].state not in FINAL and time.monotonic() < until:
            meanwhile()
            time.sleep(0.1)

    def _judge(self, release: Release, operation: str, *, whose: str = "") -> Noted:
        """Return the operation's last state, after the oracles were asked."""
        environment = self._ground
        history = self._deployment.history(operation)
        found = invariants.ended(history, seconds=self._limit) + invariants.one_attempt_at_a_time(history)
        if environment.audit is not None:
            writes = environment.audit.writes(namespace=environment.namespace, release=release.name)
            late, remainder = invariants.fenced(history, writes, self._senders(history), woke_at=self._woke_at)
            found += late
            self._verdict.remainder += [f"{whose}{text}" for text in remainder]
        witness = environment.witness(release)
        revisions, objects = witness.history(), witness.objects()
        ending = Ending(release.action, history[-1].state, history, revisions, objects, release.text())
        found += invariants.no_lock_left(ending.revisions)
        found += invariants.one_deployed(ending.revisions)
        found += invariants.ends_as_promised(ending)
        found += invariants.objects_match(witness, ending)
        found += invariants.helm_goes_on(witness, environment.chart)
        self._verdict.violations += [f"{whose}{text}" for text in found]
        return history[-1]

    def _senders(self, history: Sequence[Noted]) -> dict[str, Sent]:
        workers = {one.worker_pid for one in history}
        return {
            one.audit_id: Sent(
                one.parent if one.parent in workers else one.pid, one.received, by_child=one.parent in workers
            )
            for one in self._deployment.proxy.exchanges(after=self._mark)
            if one.listener == CLUSTER
        }

    def _operation(self) -> str | None:
        """Return the operation's id, once it is accepted; that of the one that is cancelled."""
        known = self._deployment.operations(self._release.name)
        new = [one[0] for one in known if one[0] not in self._before]
        if self._case.action in CANCELS:
            return known[-1][0] if known else None
        return new[-1] if new else None

    def _state(self) -> str:
        operation = self._operation()
        history = self._deployment.history(operation) if operation else []
        return history[-1].state if history else ""

    def _attempt(self) -> int:
        operation = self._operation()
        history = self._deployment.history(operation) if operation else []
        return history[-1].attempt if history else 0

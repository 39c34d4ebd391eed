"""Several deployments side by side: a case mostly waits for leases to end, so that two cores can play a few at once."""

import queue
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Namespace, Pod, Service

from tests.crash.cases import Case, Environment, Verdict, run_case
from tests.crash.deployment import deploy
from tests.crash.oracles import AuditLog
from tests.crash.points import Point
from tests.crash.releases import ActionName, Charts, chart
from tests.crash.survey import survey, survey_recovery
from tests.support.releases import HelmCommand
from tools.localcluster.cluster import RunningCluster

Result = TypeVar("Result")
#: The version that the judge upgrades to.
_NEXT = 3


@dataclass(frozen=True)
class Found:
    """The points of an action, and those in its recovery."""

    points: list[Point]
    recovery: list[Point]


class Lanes:
    """Threads with a deployment each; jobs go to whichever is free."""

    def __init__(self, count: int, make_environment: "Callable[[ExitStack], Environment]") -> None:
        self._jobs: queue.Queue[tuple[Callable[[Environment], object], Future[object]] | None] = queue.Queue()
        self._threads = [threading.Thread(target=self._work, args=(make_environment,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[Environment], Result]) -> "Future[Result]":
        """Return the job's result, when a lane has played it."""
        future: Future[Result] = Future()
        self._jobs.put((job, future))  # type: ignore[arg-type]  # the queue holds jobs of all kinds
        return future

    def play(self, cases: Sequence[Case]) -> "list[Future[Verdict]]":
        """Return the verdicts to come, in the order of the cases."""
        return [self.submit(lambda environment, case=case: run_case(environment, case)) for case in cases]  # type: ignore[misc]  # a default binds it

    def survey(self, actions: Sequence[ActionName]) -> dict[ActionName, Found]:
        """Where each action can be struck, on its undisturbed way and in what follows a death."""

        def look(environment: Environment, action: ActionName) -> Found:
            points = survey(environment, action)
            return Found(points, survey_recovery(environment, action, points))

        looking = {
            action: self.submit(lambda environment, action=action: look(environment, action))  # type: ignore[misc]  # as above
            for action in actions
        }
        return {action: future.result() for action, future in looking.items()}

    def close(self) -> None:
        """No lane works any more, and nothing of their deployments runs; what was not begun is not played."""
        with suppress(queue.Empty):
            while (job := self._jobs.get_nowait()) is not None:
                job[1].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, make_environment: "Callable[[ExitStack], Environment]") -> None:
        failure: BaseException | None = None
        with ExitStack() as stack:
            try:
                environment = make_environment(stack)
            except BaseException as error:  # noqa: BLE001 - every job of this lane is to fail of it
                failure = error
            while (job := self._jobs.get()) is not None:
                work, future = job
                if failure is not None:
                    future.set_exception(failure)
                    continue
                try:
                    future.set_result(work(environment))
                except BaseException as error:  # noqa: BLE001 - raised again where the result is waited for
                    future.set_exception(error)


@contextmanager
def open_environment(
    kubernetes: RunningCluster, helm: HelmCommand, *, mutant: str = "", workers: int = 2
) -> Iterator[Environment]:
    """Yield a deployment in a namespace of its own, with the oracles; all of it is gone afterwards."""
    namespace = f"crash-{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        config = KubeConfig.from_file(kubernetes.kubeconfig)
        api = stack.enter_context(Client(config=config, trust_env=False, timeout=httpx2.Timeout(30)))
        api.create(Namespace(metadata=ObjectMeta(name=namespace)))
        stack.callback(api.delete, Namespace, namespace)
        deployment = stack.enter_context(deploy(kubernetes, workers=workers, mutant=mutant))
        file = deployment.folder / "next.tgz"
        file.write_bytes(chart(_NEXT))
        log = kubernetes.kubeconfig.parent / "logs" / "audit.log"
        audit = AuditLog(log) if log.exists() else None
        if audit is not None:
            stack.callback(audit.close)
        charts = Charts(deployment)
        for version in (1, 2):
            charts.id_of(version)
        charts.id_of(1, hook="slow")
        charts.id_of(1, hook="endless")
        yield Environment(charts, namespace, api, helm, audit, file)


@contextmanager
def open_lanes(kubernetes: RunningCluster, helm: HelmCommand, *, count: int) -> Iterator[Lanes]:
    """``count`` lanes."""
    # What msgspec knows of a type it makes when it first meets it; from several threads at once that is a segfault.
    for kind in (Namespace, ConfigMap, Service, Pod):
        kind.from_dict({})
    KubeConfig.from_file(kubernetes.kubeconfig)
    lanes = Lanes(count, lambda stack: stack.enter_context(open_environment(kubernetes, helm)))
    try:
        yield lanes
    finally:
        lanes.close()


def describe(verdicts: Sequence[Verdict]) -> str:
    """Return what broke, case by case."""
    lines = []
    for one in verdicts:
        if one.violations:
            lines += [f"{one.case}", f"    {one.state} after {one.attempts} attempts: {one.text}"]
            lines += [f"    VIOLATED: {text}" for text in one.violations]
    return "\n".join(lines)

"""A trial of replicas: an installation of several processes under load, of which one dies again and again."""

import asyncio
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace

from tests.support.charts import config_map_chart
from tests.support.fleet_load import Load, Verdict, judge
from tests.support.fleets import Fleet, fleet
from tests.support.helm import helm_command
from tools.localcluster.cluster import RunningCluster

#: In this order, again and again: each has died after a while, and neighbours are of different parts.
PARTS = ("worker", "api", "observer", "worker", "api", "worker", "observer")
WRITERS, READS_PER_SECOND = 6, 10.0


@dataclass(frozen=True)
class Death:
    """One process that was killed, and when it was ready again, by the monotonic clock."""

    part: str
    name: str
    at: float
    ready_at: float


@dataclass(frozen=True)
class Outcome:
    """What a trial saw; ``calm``: seconds of the reads that no death and no start overlapped."""

    deaths: list[Death]
    verdict: Verdict
    calm: list[float]
    all_reads: list[float]
    failures: Counter[str]
    seconds: float


async def try_replicas(
    kubernetes: RunningCluster, *, deaths: int, every_seconds: float, lease_seconds: float = 6.0
) -> Outcome:
    """Run the load, and kill a part every so often; it is started again at once, as a scheduler would."""
    environment = {
        "PILOTHOUSE_WORKER__OPERATIONS": "2",
        "PILOTHOUSE_WORKER__WAITING": "2",
        # A worker that dies costs its operations a crash; so many deaths must not give one up.
        "PILOTHOUSE_WORKER__ATTEMPTS": "20",
        "PILOTHOUSE_WORKER__LEASE_SECONDS": f"{lease_seconds:g}",
        "PILOTHOUSE_WORKER__FENCE_SECONDS": f"{lease_seconds * 2 / 3:g}",
        "PILOTHOUSE_OBSERVER__LEASE_SECONDS": f"{lease_seconds:g}",
    }
    with tempfile.TemporaryDirectory(prefix="pilothouse-helm-") as home, _Room(kubernetes) as namespace:
        helm = helm_command(kubernetes, home=Path(home))
        with fleet(apis=2, workers=3, observers=2, environment=environment) as running:
            await asyncio.to_thread(running.register, kubernetes.kubeconfig.read_text())
            chart = running.apis[0].upload(config_map_chart("trial")).json()["id"]
            load, stop = Load(lambda: running.apis, chart_id=chart, namespace=namespace), asyncio.Event()
            began = time.monotonic()
            working = asyncio.create_task(load.run(stop, writers=WRITERS, reads_per_second=READS_PER_SECOND))
            try:
                died = [await _kill(running, number, every_seconds, working) for number in range(deaths)]
                await _pass(every_seconds, working)
            finally:
                stop.set()
                await asyncio.gather(working, return_exceptions=True)
            working.result()
            seconds = time.monotonic() - began
            verdict = await asyncio.to_thread(judge, running.database_url, load.accepted, helm, namespace=namespace)
    calm = [read.seconds for read in load.reads if not any(_overlaps(read.at, read.seconds, death) for death in died)]
    return Outcome(died, verdict, calm, [read.seconds for read in load.reads], load.failures, seconds)


async def _kill(running: Fleet, number: int, every_seconds: float, working: "asyncio.Task[None]") -> Death:
    await _pass(every_seconds, working)
    part = PARTS[number % len(PARTS)]
    replicas = running.of(part)
    victim = replicas[number % len(replicas)]
    at = time.monotonic()
    await asyncio.to_thread(victim.kill)
    victim.start()
    await asyncio.to_thread(victim.wait_until_ready)
    return Death(part, victim.name, at, time.monotonic())


async def _pass(seconds: float, working: "asyncio.Task[None]") -> None:
    """Let time pass, unless the load has failed."""
    done, _ = await asyncio.wait([working], timeout=seconds)
    for task in done:
        task.result()


def _overlaps(at: float, seconds: float, death: Death) -> bool:
    return at < death.ready_at and at + seconds > death.at


class _Room:
    """A namespace of the trial's own."""

    def __init__(self, kubernetes: RunningCluster) -> None:
        self._api = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
        self._name = f"trial-{uuid.uuid4().hex[:12]}"

    def __enter__(self) -> str:
        self._api.create(Namespace(metadata=ObjectMeta(name=self._name)))
        return self._name

    def __exit__(self, *_: object) -> None:
        self._api.delete(Namespace, self._name)
        self._api.close()

"""How fast a long queue is worked off, against warm engine children that are driven directly with the same installs.

The children alone are measured before and after, in the same cluster, and the mean of both counts: the more releases it
holds, the slower the cluster. ``DRAIN=N`` queues N installs instead of 1,000, ``PODS=1`` gives each release a pod.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.figures import Figure, percentile
from benchmarks.http import Connections, connections
from benchmarks.place import Place, children_of, cpu_seconds, postmaster_of
from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest
from pilothouse.settings import EngineSettings
from tests.support.charts import web_chart
from tests.support.engines import unvetted

CLUSTERS = 50
QUEUED = int(os.environ.get("DRAIN", "1000"))
#: None by default: a pod costs the cluster more than the release does.
VALUES = {"replicaCount": int(os.environ.get("PODS", "0"))}
WARM = 10
SENDERS = 4
READS_PER_SECOND = 10
LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Run:
    """Tell what it took to work a queue off: seconds in all, and processor time for each, of our parts and Helm's."""

    seconds: float
    own: float
    engine: float


async def drain(place: Place) -> list[Figure]:
    """Measure installs, and then upgrades of the same releases."""
    archive = web_chart("bench-drain")
    chart = place.upload(archive, again=True)
    direct = [await _drive_children(place, archive)]
    one = [place.server.cluster_id]
    reads: list[float] = []
    async with connections(place.server, warm=SENDERS) as http, place.namespace() as namespace:
        installs = await _work_off(place, http, _Queue(namespace, chart, one), reads)
        upgrades = await _work_off(place, http, _Queue(namespace, chart, one, upgrades=True), reads)
        direct.append(await _drive_children(place, archive))
    each = installs.seconds / QUEUED
    return [
        Figure("an install each, children driven directly", tuple(one * 1000 for one in direct)),
        Figure(f"an install each, {QUEUED} of them queued", (each * 1000,), target=1000 / 15),
        Figure(f"an upgrade each, {QUEUED} of them queued", (upgrades.seconds / QUEUED * 1000,), target=1000 / 12),
        Figure("queued / directly; 1.14 is 88 %", (each / statistics.mean(direct),), unit="", target=1 / 0.88),
        Figure("CPU of our own parts for a queued install", (installs.own * 1000,), target=20),
        Figure("CPU of the engine for a queued install", (installs.engine * 1000,), target=24),
        Figure("CPU of our own parts for a queued upgrade", (upgrades.own * 1000,)),
        Figure("CPU of the engine for a queued upgrade", (upgrades.engine * 1000,)),
        Figure("GET at 10/s meanwhile: p50", (percentile(reads, 0.50),)),
        Figure("GET at 10/s meanwhile: p99", (percentile(reads, 0.99),), target=250),
    ]


async def turns(place: Place) -> list[Figure]:
    """Measure installs in fifty clusters in turn against those in one of them.

    All are the one that there is, so that each has the whole index written by the observer: that load is in both.
    """
    chart = place.upload(web_chart("bench-drain"), again=True)
    many = _register(place)
    one = many[:1]
    async with connections(place.server, warm=SENDERS) as http, place.namespace() as namespace:
        await _work_off(place, http, _Queue(namespace, chart, many, name="warm"), [])
        first = await _work_off(place, http, _Queue(namespace, chart, one, name="one"), [])
        in_turn = await _work_off(place, http, _Queue(namespace, chart, many, name="turns"), [])
        again = await _work_off(place, http, _Queue(namespace, chart, one, name="again"), [])
    alone = statistics.mean([first.seconds, again.seconds])
    return [
        Figure("an install each, in one cluster", tuple(run.seconds / QUEUED * 1000 for run in (first, again))),
        Figure(f"an install each, in {CLUSTERS} clusters in turn", (in_turn.seconds / QUEUED * 1000,)),
        Figure("in turn / in one; 1.11 is 0.9 of the rate", (in_turn.seconds / alone,), unit="", target=1 / 0.9),
    ]


def _register(place: Place) -> list[str]:
    """Return the ids of the same cluster, registered again and again with kubeconfigs that differ."""
    document = yaml.safe_load(place.kubeconfig.read_text())
    found = []
    for number in range(CLUSTERS):
        document["contexts"][0]["name"] = document["current-context"] = f"way-{number}"
        body = {"name": f"way-{number}", "kubeconfig": yaml.safe_dump(document)}
        answer = place.server.send("POST", "/api/v1/clusters", json_body=body)
        assert answer.status_code == 201, answer.text
        found.append(str(answer.json()["id"]))
    return found


@dataclass(frozen=True)
class _Queue:
    """Say what is queued: an operation for each release, in the clusters in turn."""

    namespace: str
    chart: str
    clusters: list[str]
    name: str = "queued"
    upgrades: bool = False

    def path(self, number: int) -> str:
        """Return the path of a release."""
        cluster = self.clusters[number % len(self.clusters)]
        return f"/cce/cam/v3/clusters/{cluster}/namespace/{self.namespace}/releases/{self.name}-{number}"

    def request(self, number: int) -> tuple[str, str, dict[str, Any]]:
        """Return method, path and body of one request."""
        if self.upgrades:
            body = {
                "chart_id": self.chart,
                "action": "upgrade",
                "values": {**VALUES, "message": "again"},
                "parameters": {},
            }
            return "PUT", self.path(number), body
        base, _, name = self.path(number).partition(f"/namespace/{self.namespace}")
        name = name.rpartition("/")[2]
        body = {"chart_id": self.chart, "namespace": self.namespace, "name": name, "values": VALUES}
        return "POST", f"{base}/releases", body


async def _work_off(place: Place, http: Connections, queue: _Queue, reads: list[float]) -> Run:
    # all that there will be: a part's own processor time counts from before the requests, as accepting them is its work
    own, engine = _cpu(place)
    with place.worker_paused():
        await _queue(http, queue)
    started = time.perf_counter()
    reading = asyncio.create_task(_read(http, queue))
    await wait_for_the_end(http, queue.namespace)
    seconds = time.perf_counter() - started
    reading.cancel()
    reads += await reading
    await _check(http, queue.namespace)
    own_after, engine_after = _cpu(place)
    return Run(seconds, (own_after - own) / QUEUED, (engine_after - engine) / QUEUED)


def _cpu(place: Place) -> tuple[float, float]:
    """Return the processor seconds of our own parts (server, API, worker, observer, database), and of the engine."""
    parts = children_of(place.server.pid)
    engines = [child for part in parts for child in children_of(part)]
    database = postmaster_of(place.server.data_dir)
    backends = [database, *children_of(database)]
    own = cpu_seconds([place.server.pid, *parts, *backends]) + cpu_seconds([database], ended=True)
    return own, cpu_seconds(engines) + cpu_seconds(parts, ended=True)


async def _drive_children(place: Place, archive: bytes) -> float:
    """Seconds for each install, of as many at a time as there are children."""
    settings = EngineSettings()
    pool = EnginePool(settings, state_dir=place.folder / "engine", route=unvetted)
    names = iter(range(WARM + max(WARM, QUEUED // 5)))
    await pool.start()
    try:
        async with place.namespace() as namespace:

            async def install_all(some: Iterator[int]) -> None:
                for number in some:
                    request = _install(place.kubeconfig, namespace, f"direct-{number}", archive)
                    await pool.run(request, deadline_seconds=60)

            async def install(count: int) -> float:
                some = iter([next(names) for _ in range(count)])
                started = time.perf_counter()
                await asyncio.gather(*(install_all(some) for _ in range(settings.children)))
                return (time.perf_counter() - started) / count

            await install(WARM)
            return await install(max(WARM, QUEUED // 5))
    finally:
        await pool.close()


def _install(kubeconfig: Path, namespace: str, name: str, archive: bytes) -> InstallRequest:
    return InstallRequest(
        kubeconfig=kubeconfig.read_text(),
        namespace=namespace,
        release_name=name,
        chart=archive,
        values=VALUES,
        wait="hooks",
    )


async def _queue(http: Connections, queue: _Queue) -> None:
    numbers = iter(range(QUEUED))

    async def send() -> None:
        for number in numbers:
            answer = await http.send(*queue.request(number))
            assert answer.status in {200, 201}, answer.body

    await asyncio.gather(*(send() for _ in range(SENDERS)))


async def _read(http: Connections, queue: _Queue) -> list[float]:
    """Seconds from each read's due time to its answer, until cancelled."""
    started = time.perf_counter()
    reads: list[asyncio.Task[float]] = []

    async def one(number: int, due: float) -> float:
        answer = await http.send("GET", queue.path(number % QUEUED))
        assert answer.status == 200, answer.body
        return time.perf_counter() - due

    try:
        while True:
            due = started + len(reads) / READS_PER_SECOND
            await asyncio.sleep(due - time.perf_counter())
            reads.append(asyncio.create_task(one(len(reads) * 37, due)))
    except asyncio.CancelledError:
        return list(await asyncio.gather(*reads))


async def wait_for_the_end(http: Connections, namespace: str) -> None:
    """Return when no operation of the namespace is queued or runs."""
    until = time.monotonic() + LONGEST_SECONDS
    for state in ("queued", "running"):
        while (await http.send("GET", f"/api/v1/operations?namespace={namespace}&state={state}&limit=1")).body:
            assert time.monotonic() < until, "the queue does not become empty"
            await asyncio.sleep(0.2)


async def _check(http: Connections, namespace: str) -> None:
    path = f"/api/v1/operations?namespace={namespace}&state="
    assert not (await http.send("GET", f"{path}failed&limit=1")).body
    assert not (await http.send("GET", f"{path}cancelled&limit=1")).body

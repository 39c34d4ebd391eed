"""How fast a long queue is worked off, against warm engine children that are driven directly with the same installs.

The children alone are measured before and after, in the same cluster, and the mean of both counts: the more releases it
holds, the slower the cluster. ``DRAIN=N`` queues N installs instead of 1,000.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, percentile
from benchmarks.http import Connections, connections
from benchmarks.place import Place
from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest
from pilothouse.settings import EngineSettings
from tests.support.charts import web_chart

QUEUED = int(os.environ.get("DRAIN", "1000"))
WARM = 10
SENDERS = 4
READS_PER_SECOND = 10
LONGEST_SECONDS = 600.0


async def drain(place: Place) -> list[Figure]:
    archive = web_chart("bench-drain")
    chart = place.upload(archive)
    direct = [await _drive_children(place, archive)]
    async with connections(place.server, warm=SENDERS) as http, place.namespace() as namespace:
        with place.worker_paused():
            await _queue(place, http, namespace, chart)
        started = time.perf_counter()
        reading = asyncio.create_task(_read(place, http, namespace))
        await _wait_for_the_end(http, namespace)
        seconds = time.perf_counter() - started
        reading.cancel()
        reads = await reading
        await _check(http, namespace)
        direct.append(await _drive_children(place, archive))
    each = seconds / QUEUED
    return [
        Figure("an install each, children driven directly", tuple(one * 1000 for one in direct)),
        Figure(f"an install each, {QUEUED} of them queued", (each * 1000,)),
        Figure("queued / directly; 1.33 is 75 % of the rate", (each / statistics.mean(direct),), unit="", target=4 / 3),
        Figure("GET at 10/s meanwhile: p50", (percentile(reads, 0.50),)),
        Figure("GET at 10/s meanwhile: p99", (percentile(reads, 0.99),), target=250),
    ]


async def _drive_children(place: Place, archive: bytes) -> float:
    """Seconds for each install, of as many at a time as there are children."""
    settings = EngineSettings()
    pool = EnginePool(settings, state_dir=place.folder / "engine")
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
        kubeconfig=kubeconfig.read_text(), namespace=namespace, release_name=name, chart=archive, wait="hooks"
    )


async def _queue(place: Place, http: Connections, namespace: str, chart: str) -> None:
    numbers = iter(range(QUEUED))

    async def send() -> None:
        for number in numbers:
            body = {"chart_id": chart, "namespace": namespace, "name": f"queued-{number}"}
            answer = await http.send("POST", place.releases, body)
            assert answer.status == 201, answer.body

    await asyncio.gather(*(send() for _ in range(SENDERS)))


async def _read(place: Place, http: Connections, namespace: str) -> list[float]:
    """Seconds from each read's due time to its answer, until cancelled."""
    started = time.perf_counter()
    reads: list[asyncio.Task[float]] = []

    async def one(number: int, due: float) -> float:
        answer = await http.send("GET", place.release(namespace, f"queued-{number % QUEUED}"))
        assert answer.status == 200, answer.body
        return time.perf_counter() - due

    try:
        while True:
            due = started + len(reads) / READS_PER_SECOND
            await asyncio.sleep(due - time.perf_counter())
            reads.append(asyncio.create_task(one(len(reads) * 37, due)))
    except asyncio.CancelledError:
        return list(await asyncio.gather(*reads))


async def _wait_for_the_end(http: Connections, namespace: str) -> None:
    until = time.monotonic() + LONGEST_SECONDS
    for state in ("queued", "running"):
        while (await http.send("GET", f"/api/v1/operations?namespace={namespace}&state={state}&limit=1")).body:
            assert time.monotonic() < until, "the queue does not become empty"
            await asyncio.sleep(0.2)


async def _check(http: Connections, namespace: str) -> None:
    path = f"/api/v1/operations?namespace={namespace}&state="
    assert not (await http.send("GET", f"{path}failed&limit=1")).body
    assert not (await http.send("GET", f"{path}cancelled&limit=1")).body

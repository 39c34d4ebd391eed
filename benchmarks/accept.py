"""How long the server takes to accept a Create Release, requests arriving at a fixed rate whatever the answers do."""

import asyncio
import time

from benchmarks.figures import Figure, percentile
from benchmarks.http import Connections, connections
from benchmarks.place import Place
from tests.support.charts import config_map_chart

ROUNDS = 3
SECONDS = 20
DRAIN_SECONDS = 180


async def accept(place: Place) -> list[Figure]:
    chart = place.upload(config_map_chart("bench-small"))
    async with connections(place.server) as http, place.namespace() as namespace:
        await _round(place, http, namespace, chart, label="warm", rate=5, seconds=2)
        await _drained(place, http, namespace)
        running = [
            await _round(place, http, namespace, chart, label=f"run{number}", rate=5, seconds=SECONDS)
            for number in range(ROUNDS)
        ]
        await _drained(place, http, namespace)
        paused = []
        for number in range(ROUNDS):
            with place.worker_paused():
                paused.append(
                    await _round(place, http, namespace, chart, label=f"stop{number}", rate=20, seconds=SECONDS // 2)
                )
            await _drained(place, http, namespace)
    return [
        *_figures("POST, 5 requests/s, worker running", running),
        *_figures("POST, 20 requests/s, worker paused", paused),
    ]


def _figures(what: str, rounds: list[list[float]]) -> list[Figure]:
    return [
        Figure(f"{what}: p50", tuple(percentile(one, 0.50) for one in rounds), target=15),
        Figure(f"{what}: p99", tuple(percentile(one, 0.99) for one in rounds), target=60),
    ]


async def _round(
    place: Place, http: Connections, namespace: str, chart: str, *, label: str, rate: int, seconds: int
) -> list[float]:
    """Seconds from each request's due time to its answer: a late start counts as waiting."""
    started = time.perf_counter()

    async def one(number: int) -> float:
        due = started + number / rate
        await asyncio.sleep(due - time.perf_counter())
        body = {"chart_id": chart, "namespace": namespace, "name": f"{label}-{number}", "values": {"text": label}}
        answer = await http.send("POST", place.releases, body)
        assert answer.status == 201, answer.body
        return time.perf_counter() - due

    return list(await asyncio.gather(*(one(number) for number in range(rate * seconds))))


async def _drained(place: Place, http: Connections, namespace: str) -> None:
    until = time.monotonic() + DRAIN_SECONDS
    while True:
        found = (await http.send("GET", place.releases)).body
        ours = [release for release in found if release["namespace"] == namespace]
        failed = [release["status_description"] for release in ours if release["status"] == "FAILED"]
        assert not failed, failed[0]
        if all(release["status"] == "DEPLOYED" for release in ours):
            await asyncio.sleep(1)
            return
        assert time.monotonic() < until, "the worker does not keep up"
        await asyncio.sleep(2)

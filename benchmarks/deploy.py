"""From POST to the first GET that says DEPLOYED, against the wall time of ``helm install`` of the same chart.

In two ways, in turn: a client that lets the server wait (``Prefer: wait``), and one that asks again and again.
"""

import asyncio
import statistics
import time

from benchmarks.figures import Figure
from benchmarks.http import Connections, connections
from benchmarks.place import Place
from tests.support.charts import web_chart

PAIRS = 30
POLL_SECONDS = 0.02  # a faster poll takes the cores that the install needs


async def deploy(place: Place) -> list[Figure]:
    archive = web_chart("bench-web")
    chart, file = place.upload(archive), place.folder / "bench-web.tgz"
    file.write_bytes(archive)
    options = ["--set", "autoscaling.enabled=true"]
    waited, polled, helms, shows = [], [], [], []
    async with connections(place.server, warm=1) as http, place.namespace() as namespace:
        for number in range(-2, PAIRS):
            seconds, _ = await _deploy(place, http, namespace, chart, name=f"waited-{number + 2}", wait=True)
            await asyncio.sleep(0.3)  # what either leaves to the controllers is not the other's cost
            again, show = await _deploy(place, http, namespace, chart, name=f"polled-{number + 2}", wait=False)
            await asyncio.sleep(0.3)
            started = time.perf_counter()
            await asyncio.to_thread(
                place.helm_install, f"helm-{number + 2}", file, namespace=namespace, options=options
            )
            elapsed = time.perf_counter() - started
            await asyncio.sleep(0.3)
            if number >= 0:
                waited.append(seconds * 1000)
                polled.append(again * 1000)
                helms.append(elapsed * 1000)
                shows.append(show * 1000)
    helm = statistics.median(helms)
    return [
        Figure("helm install, wall time", tuple(helms)),
        Figure("POST to DEPLOYED, waiting GET", tuple(waited)),
        Figure("POST to DEPLOYED, polling GET", tuple(polled)),
        Figure("waiting / helm install, medians", (statistics.median(waited) / helm,), unit="", target=0.5),
        Figure("polling / helm install, medians", (statistics.median(polled) / helm,), unit="", target=0.5),
        Figure("the polling GET that says DEPLOYED", tuple(shows)),
    ]


async def _deploy(
    place: Place, http: Connections, namespace: str, chart: str, *, name: str, wait: bool
) -> tuple[float, float]:
    """Seconds until DEPLOYED, and those of the last GET alone."""
    values = {"autoscaling": {"enabled": True}}
    body = {"chart_id": chart, "namespace": namespace, "name": name, "values": values}
    started = time.perf_counter()
    answer = await http.send("POST", place.releases, body)
    assert answer.status == 201, answer.body
    headers = {"Prefer": "wait=30"} if wait else {}
    while True:
        answer = await http.send("GET", place.release(namespace, name), headers=headers)
        assert answer.status == 200, answer.body
        if answer.body["status"] == "DEPLOYED":
            return time.perf_counter() - started, answer.seconds
        assert answer.body["status"] == "PENDING_INSTALL", answer.body
        await asyncio.sleep(POLL_SECONDS)

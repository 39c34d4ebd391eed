"""Memory: of each process when idle, and of the API with its engine children over thousands of dry runs."""

import asyncio

from benchmarks.figures import Figure
from benchmarks.http import Connections, connections
from benchmarks.place import Place, child_of, children_of, pss, rss
from tests.support.charts import web_chart

FIRST, LAST = 200, 2000
AT_ONCE = 2


async def footprint(place: Place) -> list[Figure]:
    api, worker = child_of(place.server.pid, "api"), child_of(place.server.pid, "worker")
    engines = [*children_of(api), *children_of(worker)]
    idle = [
        Figure("API process, idle", (rss(api),), unit="MB", target=150),
        Figure("worker process, idle", (rss(worker),), unit="MB", target=150),
        Figure("engine child, idle, PSS", tuple(pss(pid) for pid in engines), unit="MB", target=45),
    ]
    chart = place.upload(web_chart("bench-dry"))
    async with connections(place.server, warm=AT_ONCE) as http, place.namespace() as namespace:
        await _dry_runs(place, http, namespace, chart, count=FIRST)
        early = rss(api) + sum(rss(pid) for pid in children_of(api))
        await _dry_runs(place, http, namespace, chart, count=LAST - FIRST)
        late = rss(api) + sum(rss(pid) for pid in children_of(api))
    return [
        *idle,
        Figure(f"API with its children after {FIRST} dry runs", (early,), unit="MB"),
        Figure(f"API with its children after {LAST} dry runs", (late,), unit="MB"),
        Figure(f"memory after {LAST} / after {FIRST} dry runs", (late / early,), unit="", target=1.1),
    ]


async def _dry_runs(place: Place, http: Connections, namespace: str, chart: str, *, count: int) -> None:
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for number in left:
            body = {
                "chart_id": chart,
                "namespace": namespace,
                "name": f"dry-{number}",
                "values": {"message": f"run {number}"},
                "parameters": {"dry_run": True},
            }
            answer = await http.send("POST", place.releases, body)
            assert answer.status == 201, answer.body

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))

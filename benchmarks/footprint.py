"""Memory: of each process when idle, and of the API with its engine children over thousands of dry runs."""

import asyncio
from pathlib import Path

import psycopg

from benchmarks.figures import Figure
from benchmarks.http import Connections, connections
from benchmarks.place import Place, child_of, children_of, pss, rss
from tests.support.charts import web_chart

FIRST, LAST = 200, 2000
AT_ONCE = 2
IDLE_SECONDS = 60


async def footprint(place: Place) -> list[Figure]:
    api, worker = child_of(place.server.pid, "api"), child_of(place.server.pid, "worker")
    await _install(place)
    await asyncio.sleep(IDLE_SECONDS)
    engines = [*children_of(api), *children_of(worker)]
    idle = [
        *_idle(place, engines),
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


def _idle(place: Place, engines: list[int]) -> list[Figure]:
    """Return what each process has in memory, and all of them together."""
    supervisor, postgres = place.server.pid, _postgres(place)
    sizes = {
        "supervisor": pss(supervisor),
        **{name: pss(child_of(supervisor, name)) for name in ("api", "observer", "worker")},
        f"{len(engines)} engine children": sum(map(pss, engines)),
        f"PostgreSQL, {len(postgres)} processes": sum(map(pss, postgres)),
    }
    whole = Figure("pilothouse serve with all its processes, idle, PSS", (sum(sizes.values()),), unit="MB", target=400)
    return [*(Figure(f"{name}, idle, PSS", (size,), unit="MB") for name, size in sizes.items()), whole]


def _postgres(place: Place) -> list[int]:
    """Return the processes of the server's own database, which are nobody's children."""
    with psycopg.connect(place.server.database_url) as connection:
        status = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
    server = int(status.partition("PPid:")[2].split()[0])
    return [server, *children_of(server)]


async def _install(place: Place) -> None:
    """Install a small chart: an idle server has worked before."""
    chart = place.upload(web_chart("bench-idle"))
    async with connections(place.server, warm=1) as http, place.namespace() as namespace:
        body = {"chart_id": chart, "namespace": namespace, "name": "idle", "values": {"message": "idle"}}
        assert (await http.send("POST", place.releases, body)).status == 201
        async with asyncio.timeout(60):
            while (await http.send("GET", place.release(namespace, "idle"))).body["status"] != "DEPLOYED":  # noqa: ASYNC110 - polls as a client
                await asyncio.sleep(0.1)


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

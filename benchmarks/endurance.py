"""Memory of each process that takes part in operations, after 200 and after 2,000 of them: installs and uninstalls."""

import asyncio

from benchmarks.drain import wait_for_the_end
from benchmarks.figures import Figure
from benchmarks.http import Connections, connections
from benchmarks.place import Place, child_of, children_of, rss
from tests.support.charts import web_chart

FIRST, LAST = 200, 2000
#: Installs, and then as many uninstalls, so that the cluster does not fill.
AT_ONCE = 100
SENDERS = 4


async def endurance(place: Place) -> list[Figure]:
    """Measure right after the operations, while the engine children that they needed are there."""
    chart = place.upload(web_chart("bench-endurance"))
    sizes: dict[int, dict[str, float]] = {}
    async with connections(place.server, warm=SENDERS) as http, place.namespace() as namespace:
        for done in range(2 * AT_ONCE, LAST + 1, 2 * AT_ONCE):
            await _install_and_remove(place, http, namespace, chart)
            if done in {FIRST, LAST}:
                sizes[done] = _sizes(place)
    early, late = sizes[FIRST], sizes[LAST]
    return [
        *(
            Figure(f"{name} after {done} operations", (size,), unit="MB")
            for done, parts in sizes.items()
            for name, size in parts.items()
        ),
        *(
            Figure(f"{name} after {LAST} / after {FIRST} operations", (late[name] / early[name],), unit="", target=1.2)
            for name in early
        ),
    ]


def _sizes(place: Place) -> dict[str, float]:
    """Return the resident megabytes of each part, and of the worker with its children."""
    parts = {name: rss(child_of(place.server.pid, name)) for name in ("api", "observer", "worker")}
    children = [rss(pid) for pid in children_of(child_of(place.server.pid, "worker"))]
    return {
        **parts,
        "an engine child": sum(children) / len(children),
        "worker with its children": parts["worker"] + sum(children),
    }


async def _install_and_remove(place: Place, http: Connections, namespace: str, chart: str) -> None:
    async def send(method: str) -> None:
        for number in numbers:
            name = f"endures-{number}"
            if method == "POST":
                body = {"chart_id": chart, "namespace": namespace, "name": name, "values": {"message": name}}
                answer = await http.send("POST", place.releases, body)
            else:
                answer = await http.send("DELETE", place.release(namespace, name))
            assert answer.status in {200, 201}, answer.body

    for method in ("POST", "DELETE"):
        numbers = iter(range(AT_ONCE))
        await asyncio.gather(*(send(method) for _ in range(SENDERS)))
        await wait_for_the_end(http, namespace)

"""From PUT or DELETE to the final state, against the wall time of the helm command that does the same.

Three releases go through the same life again and again, in turn: installed, upgraded, rolled back, uninstalled. One is
ours, one is helm's, and one is that of a warm engine child that is driven directly: what it takes is Helm's own part,
and the least that ours can take.
"""

import asyncio
import statistics
import time

from benchmarks.figures import Figure
from benchmarks.http import connections
from benchmarks.lives import ENGINE, HELM, OURS, Child, Command, Life, ReleaseByApi
from benchmarks.place import Place
from pilothouse.engine.pool import EnginePool
from pilothouse.settings import EngineSettings
from tests.support.charts import web_chart
from tests.support.engines import unvetted

ROUNDS = 30
REST_SECONDS = 0.3  # what either leaves to the controllers is not the other's cost
ACTIONS = ("upgrade", "rollback", "uninstall")


async def updates(place: Place) -> list[Figure]:
    archive = web_chart("bench-updated")
    chart, file = place.upload(archive), place.folder / "bench-updated.tgz"
    file.write_bytes(archive)
    times: dict[tuple[str, str], list[float]] = {(who, what): [] for who in (OURS, HELM, ENGINE) for what in ACTIONS}
    pool = EnginePool(EngineSettings(children=1), state_dir=place.folder / "engine", route=unvetted)
    await pool.start()
    try:
        async with connections(place.server, warm=1) as http, place.namespace() as namespace:
            lives: dict[str, Life] = {
                OURS: ReleaseByApi(http, place.releases, place.release(namespace, OURS), namespace, chart),
                HELM: Command(place, namespace, file),
                ENGINE: Child(pool, place.kubeconfig.read_text(), namespace, archive),
            }
            for number in range(-1, ROUNDS):
                for life in lives.values():
                    await life.install()
                for action in ACTIONS:
                    for who, life in lives.items():
                        await asyncio.sleep(REST_SECONDS)
                        started = time.perf_counter()
                        await getattr(life, action)()
                        if number >= 0:
                            times[who, action].append((time.perf_counter() - started) * 1000)
    finally:
        await pool.close()
    figures = []
    for action in ACTIONS:
        ours, helm, engine = (tuple(times[who, action]) for who in (OURS, HELM, ENGINE))
        figures += [
            Figure(f"helm {action}, wall time", helm),
            Figure(f"{action} by an engine child driven directly", engine),
            Figure(f"request to the end of the {action}, waiting GET", ours),
            Figure(f"engine alone / helm {action}, medians", (_ratio(engine, helm),), unit=""),
            Figure(f"{action} / helm {action}, medians", (_ratio(ours, helm),), unit="", target=0.5),
        ]
    return figures


def _ratio(some: tuple[float, ...], others: tuple[float, ...]) -> float:
    return statistics.median(some) / statistics.median(others)

"""Measure ten charts that are made up like real ones, 20 to 150 objects, CRDs and hooks, against the helm command.

The parts are those of the parity tests; which ones a chart has is drawn by a fixed seed, so that each run measures the
same charts. Hooks are ConfigMaps, and Deployments have no replicas: pods are nobody's cost here.
"""

import asyncio
import random
import statistics
import time

from benchmarks.figures import Figure
from benchmarks.http import connections
from benchmarks.lives import HELM, OURS, Command, Life, ReleaseByApi
from benchmarks.place import Place
from tests.parity.generated_charts import ACCOUNT, CONFIG, CUSTOM, DEPLOYMENT, SECRET, SERVICE, Thing, crd
from tests.support.charts import build_chart

SIZES = (20, 30, 40, 50, 60, 75, 90, 110, 130, 150)
ROUNDS = 3
REST_SECONDS = 0.5  # what either leaves to the controllers is not the other's cost
TARGETS = {"install": 0.55, "upgrade": 0.55, "rollback": 0.7, "uninstall": 0.7}
GROUP = "bench.example.org"
_KINDS = (CONFIG, CONFIG, CONFIG, SECRET, SERVICE, SERVICE, DEPLOYMENT, DEPLOYMENT, ACCOUNT, CUSTOM)
_HOOKS = ("pre-install,pre-upgrade", "post-install,post-upgrade", "pre-delete", "pre-rollback,post-rollback")


def generated_chart(size: int) -> bytes:
    """Return the chart with about so many objects; the value ``message`` is in most of them."""
    drawn = random.Random(size)
    templates, objects = {}, 0
    while objects < size:
        kind = drawn.choice(_KINDS)
        thing = Thing(kind, f"part-{objects}", "MESSAGE", 0 if kind == DEPLOYMENT else drawn.randint(1, 9), {})
        templates[f"{kind}-{objects}.yaml"] = _with_message(thing)
        objects += 2 if kind == ACCOUNT else 1
    for number in range(drawn.randint(1, 4)):
        annotations = {"helm.sh/hook": _HOOKS[number], "helm.sh/hook-delete-policy": "before-hook-creation"}
        templates[f"hook-{number}.yaml"] = _with_message(Thing(CONFIG, f"hook-{number}", "MESSAGE", 1, annotations))
    values = {"message": "first", "custom": GROUP}
    return build_chart(f"bench-{size}", templates=templates, values=values, files={"crds/things.yaml": crd(GROUP)})


def _with_message(thing: Thing) -> str:
    return thing.template().replace('"MESSAGE"', "{{ .Values.message | quote }}")


async def generated(place: Place) -> list[Figure]:
    """Measure the four operations of each chart, by the API and by helm in turn."""
    times: dict[tuple[str, str, int], list[float]] = {}
    async with connections(place.server, warm=1) as http, place.namespace() as namespace:
        for size in SIZES:
            archive = generated_chart(size)
            chart, file = place.upload(archive, again=True), place.folder / f"bench-{size}.tgz"
            file.write_bytes(archive)
            lives: dict[str, Life] = {
                OURS: ReleaseByApi(
                    http, place.releases, place.release(namespace, OURS), namespace, chart, polls=True, hooks=True
                ),
                HELM: Command(place, namespace, file),
            }
            for number in range(-1, ROUNDS):
                for action in TARGETS:
                    for who in (OURS, HELM) if number % 2 else (HELM, OURS):
                        await asyncio.sleep(REST_SECONDS)
                        started = time.perf_counter()
                        await getattr(lives[who], action)()
                        if number >= 0:
                            times.setdefault((who, action, size), []).append((time.perf_counter() - started) * 1000)
    return [figure for action, target in TARGETS.items() for figure in _figures(times, action, target)]


def _figures(times: dict[tuple[str, str, int], list[float]], action: str, target: float) -> list[Figure]:
    ours, helm = (tuple(statistics.median(times[who, action, size]) for size in SIZES) for who in (OURS, HELM))
    ratios = tuple(one / other for one, other in zip(ours, helm, strict=True))
    return [
        Figure(f"{len(SIZES)} generated charts: helm {action}", helm),
        Figure(f"{len(SIZES)} generated charts: request to the end of the {action}, polling GET", ours),
        Figure(f"{len(SIZES)} generated charts: {action} / helm {action}", ratios, unit="", target=target),
    ]

"""Measure a chart of real size against the helm command: on the machine itself, and over a line of 20 ms each way.

120 objects: 40 Deployments (without replicas: their pods are nobody's cost here), 40 Services, 40 ConfigMaps; an
upgrade changes all of them. Where the time of an upgrade goes is what the fault proxy saw of the engine's requests.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.http import Connections, connections
from benchmarks.lives import BARE, ENGINE, HELM, OURS, Bare, Child, Command, Life, ReleaseByApi
from benchmarks.place import Place
from pilothouse.engine.pool import EnginePool
from pilothouse.settings import EngineSettings
from tests.support.charts import build_chart
from tests.support.engines import unvetted
from tools.localcluster.faults.proxy import FaultProxy, fault_proxy
from tools.localcluster.faults.rules import Exchange

ROUNDS = 10
ROUNDS_OVER_THE_LINE = 3  # the helm command takes 45 s for each
LATENCY_SECONDS = 0.02
REST_SECONDS = 1.0  # what either leaves to the controllers is not the other's cost
OF_A_KIND = 40
TARGETS = {"install": 0.55, "upgrade": 0.5, "rollback": 0.7, "uninstall": 0.65}
TARGET_OVER_THE_LINE = 0.2
_WHO = (OURS, HELM, ENGINE, BARE)

_DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-%(name)s", labels: {app: "%(name)s"}}
spec:
  replicas: 0
  selector: {matchLabels: {app: "%(name)s", release: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "%(name)s", release: "{{ .Release.Name }}"}}
    spec:
      containers:
        - name: web
          image: "example.invalid/web:1"
          env: [{name: MESSAGE, value: {{ .Values.message | quote }}}]
          ports: [{containerPort: 80}]
          resources: {requests: {cpu: 1m, memory: 1Mi}}
"""
_SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: "{{ .Release.Name }}-%(name)s", annotations: {message: {{ .Values.message | quote }}}}
spec: {selector: {app: "%(name)s"}, ports: [{port: 80}]}
"""
_CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-%(name)s"}
data: {message: {{ .Values.message | quote }}}
"""


def large_chart(of_a_kind: int = OF_A_KIND) -> bytes:
    """Return the chart; every object shows the value ``message``."""
    templates = {}
    for number in range(of_a_kind):
        for kind, text in (("deployment", _DEPLOYMENT), ("service", _SERVICE), ("config", _CONFIG_MAP)):
            templates[f"{kind}-{number}.yaml"] = text % {"name": f"part-{number}"}
    return build_chart("bench-large", templates=templates, values={"message": "first"})


@dataclass(frozen=True)
class Way:
    """Say how the cluster is reached: by the server, which has it under this id, and by the others."""

    cluster_id: str
    kubeconfig: Path


async def large(place: Place) -> list[Figure]:
    """Measure the four operations on the machine itself."""
    way = Way(place.server.cluster_id, place.kubeconfig)
    return await _compare(place, way, rounds=ROUNDS, targets=TARGETS, where="large chart")


async def line(place: Place) -> list[Figure]:
    """Measure the same over a line of 20 ms each way, and where an upgrade's time goes without the line."""
    with fault_proxy() as proxy:
        text = proxy.kubernetes(place.kubeconfig.read_text())
        file = place.folder / "line.json"
        file.write_text(text)
        answer = place.server.send("POST", "/api/v1/clusters", json_body={"name": "line", "kubeconfig": text})
        assert answer.status_code == 201, answer.text
        way = Way(answer.json()["id"], file)
        parts = await _parts(place, proxy, text)
        proxy.flow("kubernetes", latency=LATENCY_SECONDS)
        targets = dict.fromkeys(TARGETS, TARGET_OVER_THE_LINE)
        return parts + await _compare(place, way, rounds=ROUNDS_OVER_THE_LINE, targets=targets, where="20 ms line")


async def _compare(place: Place, way: Way, *, rounds: int, targets: dict[str, float], where: str) -> list[Figure]:
    archive = large_chart()
    chart, file = place.upload(archive, again=True), place.folder / "bench-large.tgz"
    file.write_bytes(archive)
    times: dict[tuple[str, str], list[float]] = {(who, what): [] for who in _WHO for what in targets}
    pool = EnginePool(EngineSettings(children=1), state_dir=place.folder / "engine", route=unvetted)
    await pool.start()
    try:
        async with connections(place.server, warm=1) as http, place.namespace() as namespace:
            lives = _lives(place, way, http, pool, namespace, chart=chart, archive=archive, file=file)
            bare = Bare(place, namespace, file)
            if way.kubeconfig == place.kubeconfig:
                await bare.prepare()
                lives[BARE] = bare
            for number in range(-1, rounds):
                for action in targets:
                    for who in _turns(list(lives), number):
                        await asyncio.sleep(REST_SECONDS)
                        started = time.perf_counter()
                        await getattr(lives[who], action)()
                        if number >= 0:
                            times[who, action].append((time.perf_counter() - started) * 1000)
            await bare.close()
    finally:
        await pool.close()
    return [figure for action in targets for figure in _figures(times, action, where=where, target=targets[action])]


def _turns(who: list[str], number: int) -> list[str]:
    """Return everybody, beginning with another one each time: what one leaves behind is the cost of who comes next."""
    first = number % len(who)
    return who[first:] + who[:first]


def _lives(
    place: Place,
    way: Way,
    http: Connections,
    pool: EnginePool,
    namespace: str,
    *,
    chart: str,
    archive: bytes,
    file: Path,
) -> dict[str, Life]:
    releases = f"/cce/cam/v3/clusters/{way.cluster_id}/releases"
    path = f"/cce/cam/v3/clusters/{way.cluster_id}/namespace/{namespace}/releases/{OURS}"
    return {
        OURS: ReleaseByApi(http, releases, path, namespace, chart, polls=True),
        HELM: Command(place, namespace, file, kubeconfig=way.kubeconfig),
        ENGINE: Child(pool, way.kubeconfig.read_text(), namespace, archive),
    }


def _figures(times: dict[tuple[str, str], list[float]], action: str, *, where: str, target: float) -> list[Figure]:
    ours, helm, engine, bare = (tuple(times[who, action]) for who in _WHO)
    least = []
    if bare:
        least = [
            Figure(f"{where}: the writes of the {action} without Helm", bare),
            Figure(f"{where}: the writes alone / helm {action}", (_ratio(bare, helm),), unit=""),
        ]
    return [
        *least,
        Figure(f"{where}: helm {action}", helm),
        Figure(f"{where}: {action} by an engine child driven directly", engine),
        Figure(f"{where}: request to the end of the {action}, polling GET", ours),
        Figure(f"{where}: engine alone / helm {action}", (_ratio(engine, helm),), unit=""),
        Figure(f"{where}: {action} / helm {action}, medians", (_ratio(ours, helm),), unit="", target=target),
    ]


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(some) / statistics.median(others)


async def _parts(place: Place, proxy: FaultProxy, kubeconfig: str) -> list[Figure]:
    """Measure the requests of an upgrade by an engine child, one part after the other, and what is between them."""
    archive = large_chart()
    rounds: list[dict[str, float]] = []
    pool = EnginePool(EngineSettings(children=1), state_dir=place.folder / "engine", route=unvetted)
    await pool.start()
    try:
        async with place.namespace() as namespace:
            life = Child(pool, kubeconfig, namespace, archive)
            for _ in range(ROUNDS_OVER_THE_LINE):
                await life.install()
                await asyncio.sleep(REST_SECONDS)
                before = proxy.newest()
                started = time.time()
                await life.upgrade()
                rounds.append(_split(proxy.exchanges(after=before), started, time.time()))
                await life.uninstall()
                await asyncio.sleep(REST_SECONDS)
    finally:
        await pool.close()
    return [
        Figure(f"an upgrade of the large chart: {part}", tuple(one.get(part, 0.0) for one in rounds))
        for part in rounds[0]
    ]


def _split(exchanges: Sequence[Exchange], started: float, ended: float) -> dict[str, float]:
    spans: dict[str, tuple[float, float]] = {}
    for one in exchanges:
        part = _part(one)
        begun, over = spans.get(part, (one.received, one.answered))
        spans[part] = (min(begun, one.received), max(over, one.answered))
    found = {part: (over - begun) * 1000 for part, (begun, over) in spans.items()}
    found["between the requests: render, parse, pack"] = (ended - started) * 1000 - _covered(list(spans.values()))
    return found


def _part(one: Exchange) -> str:
    if one.resource == "secrets":
        return {"list": "history", "create": "storing the new revision"}.get(one.verb, "storing both revisions again")
    if one.verb == "get" and one.resource in {"configmaps", "services", "deployments"}:
        return "looking up all objects"
    if one.verb == "patch":
        return f"applying {one.resource}"
    return "version and discovery"


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    covered, until = 0.0, 0.0
    for begun, over in sorted(spans):
        covered += max(0.0, over - max(begun, until))
        until = max(until, over)
    return covered * 1000

"""Measure how long one tenant's installs take while another tenant takes what it can get, one attack after the other.

Both use the same API server. The attacker is a process of its own, so that only the server, and the cores, are shared
with it. In each round the time without the attack is measured right before: other work of the machine is then in both.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import random
import statistics
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cache, partial
from typing import Any

import httpx2

from benchmarks.figures import Figure
from benchmarks.http import Connections, connections
from benchmarks.place import Place
from tests.support.charts import build_chart, config_map_chart
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.workloads import deployment_template

SECONDS = float(os.environ.get("BENCH_ATTACK_SECONDS") or 20)
_ROUNDS = int(os.environ.get("BENCH_ATTACK_ROUNDS") or 3)
_AT_ONCE = 8
#: Twice as many as a user may have.
_STREAMS_AT_ONCE = 40
_TIMES_UNDISTURBED = 2.0
_ENDLESS = "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"
_WAIT_READY = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "3600"}
#: A text of what looks like the beginning of tokens, and of all values, in the error of each attempt.
_FAILING = '{{ fail (printf "%s %s" (repeat 25000 "eyJ") (toJson .Values)) }}'

Attack = Callable[[RunningServer, str, str], httpx2.Response]


def _create(server: RunningServer, namespace: str, chart: str, **body: object) -> httpx2.Response:
    name = f"attack-{uuid.uuid4().hex[:10]}"
    wanted = {"chart_id": chart, "namespace": namespace, "name": name, **body}
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    return server.send("POST", path, json_body=wanted, headers=_WAIT_READY)


def _never_ready(server: RunningServer, namespace: str, chart: str) -> httpx2.Response:
    time.sleep(0.5)  # each of them holds a place until its end, or waits for one
    return _create(server, namespace, chart)


def _endless_names(server: RunningServer, namespace: str, chart: str) -> httpx2.Response:
    return _create(server, namespace, chart, name="", parameters={"name_template": _ENDLESS})


def _large_values(server: RunningServer, namespace: str, chart: str) -> httpx2.Response:
    values = {f"value-{number}": f"secret-{number:015}" for number in range(10_000)}
    return _create(server, namespace, chart, values=values)


def _uploads(server: RunningServer, namespace: str, chart: str) -> httpx2.Response:
    del namespace, chart
    return server.upload(random.choice(_archives()), parameters='{"override": true}')


@cache
def _archives() -> list[bytes]:
    """Return versions of one chart, which cannot be compressed."""
    return [build_chart("attack-upload", files={"noise": os.urandom(4_000_000)}) for _ in range(4)]


def _streams(server: RunningServer, namespace: str, chart: str) -> httpx2.Response:
    del namespace, chart
    while not (found := server.send("GET", "/api/v1/operations?state=running").json()):
        time.sleep(0.2)
    path = f"/api/v1/operations/{found[0]['id']}/events"
    return server.send("GET", path, headers={"Accept": "text/event-stream"}, timeout=SECONDS)


def _templates(text: str) -> dict[str, str]:
    return {"templates.yaml": text}


#: What is done, and the templates of the chart that it is done with.
ATTACKS: dict[str, tuple[Attack, dict[str, str]]] = {
    "installs that are never ready": (_never_ready, _templates(deployment_template(fate="never-ready"))),
    "endless name templates": (_endless_names, _templates("")),
    "10,000 values in errors of 300 kB": (_large_values, _templates(_FAILING)),
    "uploads of 4 MB": (_uploads, _templates("")),
    "event streams": (_streams, _templates(deployment_template(fate="never-ready"))),
}


async def tenants(place: Place) -> list[Figure]:
    """Eight clients attack at a time, each as fast as it is answered; none of the other tenant's installs may fail."""
    chart = place.upload(config_map_chart("bench-tenants"))
    attacker = await asyncio.to_thread(_add_attacker, place)
    figures = []
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        async with connections(place.server, warm=1) as http, place.namespace() as namespace:
            await _installs(place, http, namespace, chart, until=asyncio.create_task(asyncio.sleep(3)))
            for name in ATTACKS:
                rounds = [
                    await _beside(
                        place, http, namespace, chart, attack=partial(_attack, name, attacker), process=process
                    )
                    for _ in range(_ROUNDS)
                ]
                figures += _figures(name, rounds)
    return figures


@dataclasses.dataclass(frozen=True)
class _Round:
    """Hold the milliseconds of each install without and beside an attack, and what the attack was answered."""

    quiet: list[float]
    during: list[float]
    answered: str

    @property
    def ratio(self) -> float:
        return statistics.median(self.during) / statistics.median(self.quiet)


async def _beside(
    place: Place, http: Connections, namespace: str, chart: str, *, attack: Callable[[str], str], process: Executor
) -> _Round:
    quiet = await _installs(place, http, namespace, chart, until=asyncio.create_task(asyncio.sleep(SECONDS / 4)))
    attacking = asyncio.get_running_loop().run_in_executor(process, attack, namespace)
    await asyncio.sleep(SECONDS / 10)  # it has begun
    during = await _installs(place, http, namespace, chart, until=attacking)
    return _Round(quiet, during, await attacking)


def _figures(name: str, rounds: list[_Round]) -> list[Figure]:
    answered = "; ".join(one.answered for one in rounds)
    return [
        Figure("install of another tenant, undisturbed", tuple(ms for one in rounds for ms in one.quiet)),
        Figure(f"beside {name} ({answered})", tuple(ms for one in rounds for ms in one.during)),
        Figure(
            "beside / undisturbed, medians of each round",
            tuple(one.ratio for one in rounds),
            unit="",
            target=_TIMES_UNDISTURBED,
        ),
    ]


def _add_attacker(place: Place) -> RunningServer:
    """Add another tenant, with a registration of the same API server."""
    tenant = add_tenant(place.server)
    body = {"name": "same", "kubeconfig": place.kubeconfig.read_text()}
    made = tenant.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    return dataclasses.replace(tenant, cluster_id=made.json()["id"])


async def _installs(
    place: Place, http: Connections, namespace: str, chart: str, *, until: "asyncio.Future[Any]"
) -> list[float]:
    """Return the milliseconds from POST to DEPLOYED of three installs at least, one after the other."""
    taken: list[float] = []
    for number in itertools.count():
        name = f"mine-{uuid.uuid4().hex[:10]}"
        started = time.perf_counter()
        answer = await http.send("POST", place.releases, {"chart_id": chart, "namespace": namespace, "name": name})
        assert answer.status == 201, answer.body
        shown = await http.send("GET", place.release(namespace, name), headers={"Prefer": "wait=60"})
        assert (shown.status, shown.body["status"]) == (200, "DEPLOYED"), shown.body
        taken.append((time.perf_counter() - started) * 1000)
        if number >= 2 and until.done():
            return taken
    raise AssertionError


def _attack(name: str, server: RunningServer, namespace: str) -> str:
    """Attack for SECONDS from a process of its own; return what it was answered, by status."""
    attack, templates = ATTACKS[name]
    uploaded = server.upload(
        build_chart(f"attack-{uuid.uuid4().hex[:8]}", templates=templates), parameters='{"skip_lint": true}'
    )
    assert uploaded.status_code == 201, uploaded.text
    chart = str(uploaded.json()["id"])
    if attack is _streams:
        _create(server, namespace, chart)
    if attack is _uploads:
        _archives()
    until, answers = time.monotonic() + SECONDS, list[int]()

    def repeat() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(httpx2.TimeoutException):  # a stream goes on
                answers.append(attack(server, namespace, chart).status_code)

    at_once = _STREAMS_AT_ONCE if attack is _streams else _AT_ONCE
    threads = [threading.Thread(target=repeat, daemon=True) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=max(0.0, until - time.monotonic()) + 5)
    for state in ("queued", "running"):
        while found := server.send("GET", f"/api/v1/operations?state={state}&limit=100").json():
            for one in found:
                server.send("POST", f"/api/v1/operations/{one['id']}/cancel")
            time.sleep(0.2)
    counted = {status: answers.count(status) for status in sorted(set(answers))}
    return ", ".join(f"{count} times {status}" for status, count in counted.items()) or "held for the whole time"

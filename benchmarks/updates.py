"""From PUT or DELETE to the final state, against the wall time of the helm command that does the same.

Three releases go through the same life again and again, in turn: installed, upgraded, rolled back, uninstalled. One is
ours, one is helm's, and one is that of a warm engine child that is driven directly: what it takes is Helm's own part,
and the least that ours can take.
"""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any, Protocol

from benchmarks.figures import Figure
from benchmarks.http import Connections, connections
from benchmarks.place import Place
from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest, Request, RollbackRequest, UninstallRequest, UpgradeRequest
from pilothouse.settings import EngineSettings
from tests.support.charts import web_chart

ROUNDS = 30
REST_SECONDS = 0.3  # what either leaves to the controllers is not the other's cost
ACTIONS = ("upgrade", "rollback", "uninstall")

OURS, HELM, ENGINE = "ours", "helm", "engine"


class Life(Protocol):
    """One release; each step returns when a client sees its end."""

    async def install(self) -> None: ...

    async def upgrade(self) -> None: ...

    async def rollback(self) -> None: ...

    async def uninstall(self) -> None: ...


async def updates(place: Place) -> list[Figure]:
    archive = web_chart("bench-updated")
    chart, file = place.upload(archive), place.folder / "bench-updated.tgz"
    file.write_bytes(archive)
    times: dict[tuple[str, str], list[float]] = {(who, what): [] for who in (OURS, HELM, ENGINE) for what in ACTIONS}
    pool = EnginePool(EngineSettings(children=1), state_dir=place.folder / "engine")
    await pool.start()
    try:
        async with connections(place.server, warm=1) as http, place.namespace() as namespace:
            lives: dict[str, Life] = {
                OURS: _Release(http, place.releases, place.release(namespace, OURS), namespace, chart),
                HELM: _Command(place, namespace, file),
                ENGINE: _Child(pool, place.kubeconfig.read_text(), namespace, archive),
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


class _Command:
    """The helm command's release."""

    def __init__(self, place: Place, namespace: str, chart: Path) -> None:
        self._place = place
        self._namespace = namespace
        self._chart = str(chart)

    async def install(self) -> None:
        await self._run("install", HELM, self._chart)

    async def upgrade(self) -> None:
        await self._run("upgrade", HELM, self._chart, "--set", "message=changed")

    async def rollback(self) -> None:
        await self._run("rollback", HELM, "1")

    async def uninstall(self) -> None:
        await self._run("uninstall", HELM)

    async def _run(self, *arguments: str) -> None:
        await asyncio.to_thread(self._place.run_helm, *arguments, namespace=self._namespace)


class _Child:
    """The engine's release."""

    def __init__(self, pool: EnginePool, kubeconfig: str, namespace: str, archive: bytes) -> None:
        self._pool = pool
        where: dict[str, Any] = {"kubeconfig": kubeconfig, "namespace": namespace, "release_name": ENGINE}
        self._install = InstallRequest(**where, chart=archive)
        self._upgrade = UpgradeRequest(**where, chart=archive, values={"message": "changed"})
        self._rollback = RollbackRequest(**where, to_revision=1)
        self._uninstall = UninstallRequest(**where)

    async def install(self) -> None:
        await self._run(self._install)

    async def upgrade(self) -> None:
        await self._run(self._upgrade)

    async def rollback(self) -> None:
        await self._run(self._rollback)

    async def uninstall(self) -> None:
        await self._run(self._uninstall)

    async def _run(self, request: Request[Any]) -> None:
        await self._pool.run(request, deadline_seconds=60)


class _Release:
    """Our release, through the API."""

    def __init__(self, http: Connections, releases: str, path: str, namespace: str, chart: str) -> None:
        self._http = http
        self._releases = releases
        self._path = path
        self._namespace = namespace
        self._chart = chart

    async def install(self) -> None:
        body = {"chart_id": self._chart, "namespace": self._namespace, "name": self._path.rpartition("/")[2]}
        await self._send("POST", body, path=self._releases)
        await self._until("DEPLOYED")

    async def upgrade(self) -> None:
        body = {"chart_id": self._chart, "action": "upgrade", "values": {"message": "changed"}, "parameters": {}}
        await self._send("PUT", body)
        await self._until("DEPLOYED")

    async def rollback(self) -> None:
        body = {"chart_id": self._chart, "action": "rollback", "values": {}, "parameters": {"release_version": 1}}
        await self._send("PUT", body)
        await self._until("DEPLOYED")

    async def uninstall(self) -> None:
        await self._send("DELETE", None)
        await self._until(None)

    async def _send(self, method: str, body: object, *, path: str = "") -> None:
        answer = await self._http.send(method, path or self._path, body)
        assert answer.status in {200, 201}, answer.body

    async def _until(self, status: str | None) -> None:
        """Returns when the release has that status; None: when it is gone."""
        while True:
            answer = await self._http.send("GET", self._path, headers={"Prefer": "wait=30"})
            if status is None and answer.status == 404:
                return
            assert answer.status == 200, answer.body
            if answer.body["status"] == status:
                return
            assert answer.body["status"].startswith(("PENDING", "DELETING")), answer.body

"""From PUT or DELETE to the final state, against the wall time of the helm command that does the same.

One release of ours and one of helm's go through the same life again and again, in turn: installed, upgraded, rolled
back, uninstalled.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from benchmarks.figures import Figure
from benchmarks.http import Connections, connections
from benchmarks.place import Place
from tests.support.charts import web_chart

ROUNDS = 30
REST_SECONDS = 0.3  # what either leaves to the controllers is not the other's cost
ACTIONS = ("upgrade", "rollback", "uninstall")

Step = Callable[[], Awaitable[None]]


async def updates(place: Place) -> list[Figure]:
    archive = web_chart("bench-updated")
    chart, file = place.upload(archive), place.folder / "bench-updated.tgz"
    file.write_bytes(archive)
    ours: dict[str, list[float]] = {action: [] for action in ACTIONS}
    helms: dict[str, list[float]] = {action: [] for action in ACTIONS}
    async with connections(place.server, warm=1) as http, place.namespace() as namespace:

        async def helm(*arguments: str) -> None:
            await asyncio.to_thread(place.run_helm, *arguments, namespace=namespace)

        for number in range(-1, ROUNDS):
            release = _Release(http, place.releases, place.release(namespace, "ours"), namespace, chart)
            await release.install()
            await helm("install", "helms", str(file))
            steps: dict[str, tuple[Step, Step]] = {
                "upgrade": (
                    release.upgrade,
                    lambda: helm("upgrade", "helms", str(file), "--set", "message=changed"),
                ),
                "rollback": (release.rollback, lambda: helm("rollback", "helms", "1")),
                "uninstall": (release.uninstall, lambda: helm("uninstall", "helms")),
            }
            for action, (mine, hers) in steps.items():
                for step, times in ((mine, ours), (hers, helms)):
                    await asyncio.sleep(REST_SECONDS)
                    started = time.perf_counter()
                    await step()
                    if number >= 0:
                        times[action].append((time.perf_counter() - started) * 1000)
    figures = []
    for action in ACTIONS:
        ratio = statistics.median(ours[action]) / statistics.median(helms[action])
        figures += [
            Figure(f"helm {action}, wall time", tuple(helms[action])),
            Figure(f"request to the end of the {action}, waiting GET", tuple(ours[action])),
            Figure(f"{action} / helm {action}, medians", (ratio,), unit="", target=0.5),
        ]
    return figures


class _Release:
    """One release of ours; each step returns when a client sees its end."""

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

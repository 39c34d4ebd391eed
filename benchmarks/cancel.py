"""From POST …/cancel to the final state of a running operation, against the helm command that undoes the same.

Each operation hangs in a hook that never ends when it is cancelled. What Pilothouse adds is the time until the worker
notices and has killed the child, its looks at the release, and the bookkeeping.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.figures import Figure
from benchmarks.http import Connections, connections
from benchmarks.place import Place
from tests.support.charts import hook_job_template, pack_archive, read_archive, web_chart

ROUNDS = 10
POLL_SECONDS = 0.02
ACTIONS = ("install", "upgrade", "rollback", "uninstall")
NAME = "bench-cancelled"
TARGET_MS = 3000
STALL = "    metadata: {annotations: {pilothouse.dev/simulate: never-ready}}\n    spec:\n      restartPolicy"


async def cancel(place: Place) -> list[Figure]:
    archive = _chart()
    chart, file = place.upload(archive), place.folder / f"{NAME}.tgz"
    file.write_bytes(archive)
    ours: dict[str, list[float]] = {action: [] for action in ACTIONS}
    helms: dict[str, list[float]] = {"rollback": [], "uninstall": []}
    async with connections(place.server, warm=1) as http, place.namespace() as namespace:

        async def helm(*arguments: str) -> float:
            started = time.perf_counter()
            await asyncio.to_thread(place.run_helm, *arguments, namespace=namespace)
            return (time.perf_counter() - started) * 1000

        for number in range(-1, ROUNDS):
            await helm("install", "helms", str(file))
            await helm("upgrade", "helms", str(file), "--set", "message=changed")
            alone = {"rollback": await helm("rollback", "helms", "1"), "uninstall": await helm("uninstall", "helms")}
            took = {}
            for action in ACTIONS:
                release = _Release(http, place, namespace, f"{action}{number + 1}", chart)
                took[action] = await release.cancel(action)
            if number >= 0:
                for undo, times in helms.items():
                    times.append(alone[undo])
                for action, times in ours.items():
                    times.append(took[action])
    figures = [Figure(f"helm {undo}, wall time", tuple(times)) for undo, times in helms.items()]
    for action in ACTIONS:
        undo = "uninstall" if action == "install" else "rollback"
        added = statistics.median(ours[action]) - statistics.median(helms[undo])
        figures += [
            Figure(f"cancel of a running {action} to its final state", tuple(ours[action])),
            Figure(f"the same without helm {undo}, medians", (added,), target=TARGET_MS),
        ]
    return figures


def _chart() -> bytes:
    """Return the web chart, with a hook that hangs for the events that the value ``hook`` names."""
    hook = hook_job_template("{{ .Values.hook }}").replace("    spec:\n      restartPolicy", STALL)
    text = f"{{{{- if .Values.hook }}}}\n{hook}{{{{- end }}}}\n"
    return pack_archive(read_archive(web_chart(NAME)) | {f"{NAME}/templates/hook.yaml": text.encode()})


@dataclass(frozen=True)
class _Release:
    """One release of ours."""

    http: Connections
    place: Place
    namespace: str
    name: str
    chart: str

    async def cancel(self, action: str) -> float:
        """Milliseconds from the cancel of that action to its end; the release is gone afterwards."""
        make: dict[str, Callable[[], Awaitable[str]]] = {
            "install": lambda: self._create("post-install"),
            "upgrade": lambda: self._put("upgrade", "post-upgrade"),
            "rollback": lambda: self._put("rollback", ""),
            "uninstall": lambda: self._send("DELETE", self._path, None),
        }
        if action != "install":
            await self._end(
                await self._create({"rollback": "post-rollback", "uninstall": "pre-delete"}.get(action, ""))
            )
        if action == "rollback":
            await self._end(await self._put("upgrade", ""))
        operation = await make[action]()
        await self._hangs(operation)
        started = time.perf_counter()
        await self.http.send("POST", f"{operation}/cancel", {})
        state = await self._end(operation)
        took = (time.perf_counter() - started) * 1000
        assert state == "cancelled", state
        if action == "uninstall":
            await self._end(await self._put("upgrade", ""))  # without the hook that hangs
        if action != "install":
            await self._end(await self._send("DELETE", self._path, None))
        return took

    @property
    def _path(self) -> str:
        return self.place.release(self.namespace, self.name)

    async def _create(self, hook: str) -> str:
        body = {"chart_id": self.chart, "namespace": self.namespace, "name": self.name, "values": {"hook": hook}}
        return await self._send("POST", self.place.releases, body | {"parameters": {"include_hooks": bool(hook)}})

    async def _put(self, action: str, hook: str) -> str:
        body = {"chart_id": self.chart, "action": action, "values": {"hook": hook, "message": "changed"}}
        flags: dict[str, object] = {"include_hooks": bool(hook) or action == "rollback"}
        if action == "rollback":
            flags["release_version"] = 1
        return await self._send("PUT", self._path, body | {"parameters": flags})

    async def _send(self, method: str, path: str, body: object) -> str:
        """Return the path of the release's last operation, after that request."""
        answer = await self.http.send(method, path, body)
        assert answer.status in {200, 201}, answer.body
        last = await self.http.send("GET", f"/api/v1/operations?namespace={self.namespace}&release={self.name}&limit=1")
        return f"/api/v1/operations/{last.body[0]['id']}"

    async def _hangs(self, operation: str) -> None:
        while True:
            events = (await self.http.send("GET", f"{operation}/events")).body
            if any(event["kind"] == "hook_progress" for event in events):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _end(self, operation: str) -> str:
        while True:
            state = str((await self.http.send("GET", operation)).body["state"])
            if state not in {"queued", "running", "cancelling"}:
                return state
            await asyncio.sleep(POLL_SECONDS)

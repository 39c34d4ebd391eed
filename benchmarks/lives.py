"""Time a release that is installed, upgraded, rolled back and uninstalled: by us, by ``helm``, by an engine child."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import yaml

from benchmarks.http import Connections
from benchmarks.place import Place
from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest, RollbackRequest, UninstallRequest, UpgradeRequest
from pilothouse.engine.request import Request
from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.kubernetes.transport import Transport
from pilothouse.settings import ClusterSettings

OURS, HELM, ENGINE, BARE = "ours", "helm", "engine", "bare"
POLL_SECONDS = 0.02  # a faster poll takes the cores that the work needs


class Life(Protocol):
    """Lead one release through its life; each step returns when a client sees its end."""

    async def install(self) -> None: ...

    async def upgrade(self) -> None: ...

    async def rollback(self) -> None: ...

    async def uninstall(self) -> None: ...


class Command:
    """Do it by the helm command."""

    def __init__(self, place: Place, namespace: str, chart: Path, *, kubeconfig: Path | None = None) -> None:
        """``kubeconfig`` is the way to the cluster, if it is not the place's own."""
        self._place = place
        self._kubeconfig = kubeconfig
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
        await asyncio.to_thread(
            self._place.run_helm, *arguments, namespace=self._namespace, kubeconfig=self._kubeconfig
        )


class Child:
    """Do it by an engine child."""

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
        await self._pool.run(request, deadline_seconds=300)


class ReleaseByApi:
    """Do it through the API."""

    def __init__(
        self,
        http: Connections,
        releases: str,
        path: str,
        namespace: str,
        chart: str,
        *,
        polls: bool = False,
        hooks: bool = False,
    ) -> None:
        """Prepare a life: with ``polls`` it asks again and again instead of waiting; ``hooks`` run at updates, too."""
        self._polls = polls
        self._parameters = {"include_hooks": True} if hooks else {}
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
        body = {"chart_id": self._chart, "action": "upgrade", "values": {"message": "changed"}}
        await self._send("PUT", body | {"parameters": self._parameters})
        await self._until("DEPLOYED")

    async def rollback(self) -> None:
        parameters = {"release_version": 1, **self._parameters}
        body = {"chart_id": self._chart, "action": "rollback", "values": {}, "parameters": parameters}
        await self._send("PUT", body)
        await self._until("DEPLOYED")

    async def uninstall(self) -> None:
        await self._send("DELETE", None)
        await self._until(None)

    async def _send(self, method: str, body: object, *, path: str = "") -> None:
        answer = await self._http.send(method, path or self._path, body)
        assert answer.status in {200, 201}, answer.body

    async def _until(self, status: str | None) -> None:
        """Return when the release has that status; None: when it is gone."""
        while True:
            answer = await self._http.send("GET", self._path, headers={} if self._polls else {"Prefer": "wait=30"})
            if status is None and answer.status == 404:
                return
            assert answer.status == 200, answer.body
            if answer.body["status"] == status:
                return
            assert answer.body["status"].startswith(("PENDING", "DELETING")), answer.body
            if self._polls:
                await asyncio.sleep(POLL_SECONDS)


class Bare:
    """Do the same writes of the objects without Helm, kinds in Helm's order: the least that anybody's can take."""

    def __init__(self, place: Place, namespace: str, chart: Path) -> None:
        self._place = place
        self._namespace = namespace
        self._chart = str(chart)
        settings = ClusterSettings(allow_loopback=True)
        kubeconfig = sanitise(place.kubeconfig.read_text(), addresses=Addresses(allow_loopback=True)).text
        self._kubernetes = Transport(kubeconfig, settings)
        self._manifests: dict[str, list[dict[str, Any]]] = {}

    async def prepare(self) -> None:
        """Render what is written."""
        for message in ("first", "changed"):
            arguments = ["template", BARE, self._chart, "--set", f"message={message}"]
            text = await asyncio.to_thread(self._place.run_helm, *arguments, namespace=self._namespace)
            self._manifests[message] = [one for one in yaml.safe_load_all(text) if one]

    async def close(self) -> None:
        """End the connections."""
        await self._kubernetes.close()

    async def install(self) -> None:
        await self._apply("first")

    async def upgrade(self) -> None:
        await self._apply("changed")

    async def rollback(self) -> None:
        await self._apply("first")

    async def uninstall(self) -> None:
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        for kind in ("Service", "Deployment", "ConfigMap"):
            await self._each("DELETE", kind, "first", lambda _: body, content_type="application/json")

    async def _apply(self, message: str) -> None:
        for kind in ("ConfigMap", "Service", "Deployment"):
            await self._each("PATCH", kind, message, lambda one: one, content_type="application/apply-patch+yaml")

    async def _each(
        self,
        method: str,
        kind: str,
        message: str,
        body: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        content_type: str,
    ) -> None:
        async def send(one: dict[str, Any]) -> None:
            path = f"{_SERVED[kind].format(self._namespace)}/{one['metadata']['name']}"
            params = {"fieldManager": "helm", "fieldValidation": "Strict"} if method == "PATCH" else None
            answer = await self._kubernetes.ask(
                method, path, params=params, body=body(one), content_type=content_type, largest=_MIB
            )
            assert answer.ok, answer.message

        await asyncio.gather(*(send(one) for one in self._manifests[message] if one["kind"] == kind))


_MIB = 1024 * 1024
_SERVED = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
}

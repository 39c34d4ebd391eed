"""An API server that is well when it is registered, and then does to its readers what a test tells it to."""

import asyncio
import base64
import gzip
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.fake_api_servers import kubeconfig, peer

Attack = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
_MIB = 1024 * 1024


class HostileCluster:
    """One server in a thread of its own; ``attacks`` are looked up by the beginning of the request's target."""

    def __init__(self) -> None:
        self.port = 0
        self.attacks: dict[str, Attack] = {}
        self.secrets: list[dict[str, Any]] = []
        self.requests: list[str] = []
        #: Bytes that attacks have got rid of.
        self.sent = 0

    @property
    def kubeconfig(self) -> str:
        return kubeconfig(self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.transport.abort()  # a peer that does not read would be waited for

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target = head.decode("latin-1").split(" ", 2)[:2]
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if length:
                await reader.readexactly(int(length[0].partition(b":")[2]))
            self.requests.append(f"{method} {target}")
            attack = next((self.attacks[one] for one in self.attacks if target.startswith(one)), None)
            if attack is not None:
                await attack(target, writer)
            else:
                await self._behave(target, writer)

    async def _behave(self, target: str, writer: asyncio.StreamWriter) -> None:
        if target == "/version":
            await answer(writer, {"gitVersion": "v1.36.0"})
        elif "watch=true" in target:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await asyncio.sleep(3600)
        elif "/secrets/" in target:
            name = target.partition("?")[0].rpartition("/")[2]
            await answer(writer, next(one for one in self.secrets if one["metadata"]["name"] == name))
        elif "/secrets?" in target:
            others = "owner%21" in target or ("%21%3D" in target and "name%3D" not in target)
            items = [] if others else self.secrets
            await answer(writer, {"kind": "SecretList", "metadata": {"resourceVersion": "100"}, "items": items})
        elif target == "/api/v1":
            kinds = [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]
            await answer(writer, {"kind": "APIResourceList", "resources": kinds})
        elif "/namespaces/" in target:
            await answer(writer, {"kind": "Namespace", "metadata": {"uid": "u-1"}, "status": {"phase": "Active"}})
        else:
            await answer(writer, {"kind": "Status", "status": "Success"})

    async def flood(self, writer: asyncio.StreamWriter, piece: bytes, *, times: int = 1_000_000) -> None:
        """Send the piece again and again, as a chunked body that does not end by itself."""
        chunk = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(times):
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
            self.sent += len(chunk)


async def answer(writer: asyncio.StreamWriter, body: object, *, status: int = 200) -> None:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
    await writer.drain()


@contextmanager
def hostile_cluster(folder: Path) -> Iterator[HostileCluster]:
    cluster = HostileCluster()
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        async with peer(cluster.serve, folder) as port:
            cluster.port = port
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield cluster
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()


def release_secret(
    name: str,
    *,
    namespace: str = "shop",
    revision: int = 1,
    manifest: str = "",
    version: int = 90,
    values: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    description: str = "",
    status: str = "deployed",
) -> dict[str, Any]:
    """Return a Secret as Helm writes it; ``config`` are the user's values, ``values`` the chart's."""
    payload: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "version": revision,
        "info": {"status": status, "description": description},
        "chart": {"metadata": {"name": "web", "version": "1.0.0"}, "values": values or {}},
        "config": config or {},
        "manifest": manifest,
    }
    text = base64.b64encode(gzip.compress(json.dumps(payload).encode(), 1))
    return {
        "metadata": {
            "namespace": namespace,
            "name": f"sh.helm.release.v1.{name}.v{revision}",
            "uid": f"uid-{name}-{revision}",
            "resourceVersion": str(version),
            "labels": {"owner": "helm", "name": name, "version": str(revision), "status": status},
        },
        "type": "helm.sh/release.v1",
        "data": {"release": base64.b64encode(text).decode()},
    }


def config_maps(number: int, *, group: Callable[[int], str] = lambda _: "v1") -> str:
    """Return the manifest of so many ConfigMaps."""
    return "---\n".join(
        f"apiVersion: {group(index)}\nkind: ConfigMap\nmetadata:\n  name: c{index}\n" for index in range(number)
    )

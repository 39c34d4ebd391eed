"""The proxy's process: listeners, and a control socket that takes one JSON object a line and answers with one.

It ends when its standard input ends, so it never outlives the test that started it.
"""

import asyncio
import base64
import json
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from tools.localcluster.faults.kubernetes import KubernetesProxy, Upstream
from tools.localcluster.faults.postgres import PostgresProxy, Server
from tools.localcluster.faults.rules import Rule, RuleBook
from tools.localcluster.ports import HOST

CERTIFICATE = "proxy"


class Control:
    """Carries out the commands; each method that a command may name takes its fields and gives plain data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rules = RuleBook()
        self._proxies: dict[str, KubernetesProxy | PostgresProxy] = {}
        self._servers: list[asyncio.Server] = []
        self._commands: dict[str, Callable[..., Awaitable[Any]]] = {
            "kubernetes": self.kubernetes,
            "postgres": self.postgres,
            "flow": self.flow,
            "arm": self.arm,
            "disarm": self.disarm,
            "clear": self.clear,
            "release": self.release,
            "wait_held": self.wait_held,
            "exchanges": self.exchanges,
            "newest": self.newest,
        }

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the commands of one connection."""
        try:
            while line := await reader.readline():
                command = json.loads(line)
                try:
                    answer = {"done": await self._commands[command.pop("command")](**command)}
                except Exception as error:  # noqa: BLE001 - the one who sent the command is to know
                    answer = {"error": f"{type(error).__name__}: {error}"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def kubernetes(self, *, listener: str, server: str, cluster: dict[str, str], user: dict[str, str]) -> int:
        """Return a new listener in front of an API server; gives its port."""
        address = urlsplit(server)
        upstream = Upstream(
            host=address.hostname or HOST,
            port=address.port or 443,
            tls=_upstream_tls(cluster, user),
            server_name=cluster.get("tls-server-name") or address.hostname or HOST,
        )
        proxy = KubernetesProxy(listener, upstream, self._rules)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self._folder / f"{CERTIFICATE}.crt", self._folder / f"{CERTIFICATE}.key")
        tls.set_alpn_protocols(["http/1.1"])
        return await self._listen(listener, proxy, tls)

    async def postgres(self, *, listener: str, host: str, port: int) -> int:
        """Return a new listener in front of a PostgreSQL; gives its port."""
        return await self._listen(listener, PostgresProxy(listener, Server(host, port), self._rules), None)

    async def _listen(self, name: str, proxy: KubernetesProxy | PostgresProxy, tls: ssl.SSLContext | None) -> int:
        if name in self._proxies:
            raise ValueError(f"there is a listener {name!r} already")
        server = await asyncio.start_server(proxy.serve, HOST, 0, ssl=tls, backlog=256)
        self._proxies[name] = proxy
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def flow(self, *, listener: str, state: Any, latency: float) -> None:
        """See Flow."""
        self._proxies[listener].flow.set(state, latency=latency)

    async def arm(self, *, rule: dict[str, Any]) -> None:
        """See RuleBook."""
        self._rules.arm(Rule(**rule))

    async def disarm(self) -> None:
        """See RuleBook."""
        self._rules.disarm()

    async def clear(self, *, how: Any) -> None:
        """See RuleBook."""
        self._rules.clear(how)

    async def release(self, *, number: int, how: Any) -> bool:
        """See RuleBook."""
        return self._rules.release(number, how)

    async def wait_held(self, *, seconds: float) -> list[dict[str, Any]]:
        """See RuleBook."""
        return [asdict(held) for held in await self._rules.wait_held(seconds)]

    async def exchanges(self, *, after: int) -> list[dict[str, Any]]:
        """Return the log, from the first exchange with a higher number."""
        return [asdict(one) for one in self._rules.log if one.number > after]

    async def newest(self) -> int:
        """Return the highest number in the log."""
        return self._rules.log[-1].number if self._rules.log else 0


def _upstream_tls(cluster: dict[str, str], user: dict[str, str]) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data")
    tls = ssl.create_default_context(cadata=base64.b64decode(authority).decode() if authority else None)
    tls.set_alpn_protocols(["http/1.1"])
    certificate, key = user.get("client-certificate-data"), user.get("client-key-data")
    if certificate and key:
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder) / "certificate", Path(folder) / "key"
            for file, text in zip(files, (certificate, key), strict=True):
                file.write_bytes(base64.b64decode(text))
            tls.load_cert_chain(*files)
    return tls


async def _serve(folder: Path) -> None:
    control = Control(folder)
    server = await asyncio.start_unix_server(control.answer, folder / "control")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    async with server:
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Serve until standard input ends; the folder, our only argument, holds the certificate and the control socket."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Path(sys.argv[1])))


if __name__ == "__main__":
    main()

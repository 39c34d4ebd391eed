"""How long signed requests take, and how much the API grows, while strangers attack it, one attack after the other.

The attackers are a process of their own: in this one, they would delay the measurement as well as the server.
"""

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.figures import Figure, percentile
from benchmarks.http import Connections, connections
from benchmarks.place import Place, child_of, rss
from pilothouse.open_files import raise_open_files
from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer

#: Of each attack, without a pause, in each round.
SECONDS = float(os.environ.get("BENCH_ATTACK_SECONDS") or 20)
ROUNDS = int(os.environ.get("BENCH_ATTACK_ROUNDS") or 3)
CLIENTS = 2
RATE = 20
_LOGIN = "/v3/auth/tokens"
_MILLISECONDS = 100.0
_MEMORY = 64.0


def _head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def _body(content: bytes) -> bytes:
    return _head("POST", _LOGIN, "Content-Type: application/json", f"Content-Length: {len(content)}") + content


def _errors_of_a_login() -> bytes:
    return _body(json.dumps({"auth": {"identity": {"methods": [0] * 500_000}}}).encode())


def _values_of_a_login() -> bytes:
    return _body(b'{"auth": [' + b"[]," * 5000 + b"[]]}")


def _chunks_of_one_byte() -> bytes:
    return _head("POST", _LOGIN, "Transfer-Encoding: chunked") + b"1\r\n \r\n" * 150_000


def _lines() -> bytes:
    return b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 47_000 + b"\r\n"


def _trailer() -> bytes:
    return _head("POST", _LOGIN, "Transfer-Encoding: chunked") + b"0\r\n" + b"a:\r\n" * 47_000 + b"\r\n"


def _unknown_key() -> bytes:
    claim = "SDK-HMAC-SHA256 Access=AAAAAAAAAAAAAAAAAAAA, SignedHeaders=x-sdk-date, Signature=00"
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return _head("GET", "/v2/charts", f"Authorization: {claim}", f"X-Sdk-Date: {date}", "Connection: close")


@dataclass(frozen=True)
class Attack:
    """What one connection does: send something, and wait for the answer or hold the connection without reading."""

    content: Callable[[], bytes] = bytes
    hold: bool = False
    tls_port: bool = False
    handshake: bool = False


ATTACKS: dict[str, Attack] = {
    "log-in with 500,000 wrong methods": Attack(_errors_of_a_login),
    "log-in with 5,000 values": Attack(_values_of_a_login),
    "150,000 chunks of one byte": Attack(_chunks_of_one_byte),
    "head of 47,000 lines": Attack(_lines),
    "trailer of 47,000 lines": Attack(_trailer),
    "signature of an unknown key": Attack(_unknown_key),
    "connections that say nothing": Attack(hold=True),
    "the same to the TLS port": Attack(hold=True, tls_port=True),
    "TLS handshakes": Attack(tls_port=True, handshake=True),
    "requests whose answers are not read": Attack(lambda: _head("GET", "/api/v1/openapi.json") * 60, hold=True),
}


async def strangers(place: Place) -> list[Figure]:
    """Two clients attack at a time, each as fast as it is answered; none of the signed requests may fail."""
    chart = place.upload(config_map_chart("bench-strangers"))
    api = child_of(place.server.pid, "api")
    figures = []
    loop, context = asyncio.get_running_loop(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        await loop.run_in_executor(process, int)  # it has started
        async with connections(place.server) as http:
            await _requests(http, chart, until=asyncio.create_task(asyncio.sleep(2)))
            quiet = []
            for _ in range(ROUNDS):
                nothing = asyncio.create_task(asyncio.sleep(SECONDS))
                quiet.append(percentile(await _requests(http, chart, until=nothing), 0.99))
            undisturbed = statistics.median(quiet)
            for name in ATTACKS:
                during, growth = [], []
                for _ in range(ROUNDS):
                    sizes = [rss(api)]
                    watching = asyncio.create_task(_watch(api, sizes))
                    clients = loop.run_in_executor(process, _attack_at_once, name, place.server)
                    during.append(percentile(await _requests(http, chart, until=clients), 0.99))
                    await clients
                    watching.cancel()
                    growth.append(max(sizes) - sizes[0])
                more = tuple(one - undisturbed for one in during)
                figures += [
                    Figure(f"{name}: p99 of a signed GET more than without", more, target=_MILLISECONDS),
                    Figure(f"{name}: growth of the API", tuple(growth), "MiB", target=_MEMORY),
                ]
    return [Figure(f"signed GET at {RATE}/s, nobody attacks: p99", tuple(quiet)), *figures]


async def _watch(pid: int, sizes: list[float]) -> None:
    """Add the memory of a process ten times a second, until cancelled."""
    while True:
        sizes.append(rss(pid))
        await asyncio.sleep(0.1)


def _attack_at_once(name: str, server: RunningServer) -> None:
    """Attack for SECONDS with all clients."""
    raise_open_files()
    attack = ATTACKS[name]
    content = attack.content()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(lambda _: _attack(server, attack, content), range(CLIENTS)))


def _attack(server: RunningServer, attack: Attack, content: bytes) -> None:
    address = urlsplit(server.tls_url if attack.tls_port else server.url)
    context = ssl.create_default_context(cafile=server.ca)
    until = time.monotonic() + SECONDS
    with contextlib.ExitStack() as held:
        while time.monotonic() < until:
            try:
                connection = socket.create_connection((address.hostname or "", address.port or 0), timeout=10)
                if attack.hold:
                    held.callback(connection.close)
                    connection.sendall(content)
                    time.sleep(0.01)
                else:
                    with contextlib.closing(connection):
                        _use(connection, attack, content, context, address.hostname or "")
            except OSError:  # refused or cut off, as it is to be
                time.sleep(0.001)


def _use(connection: socket.socket, attack: Attack, content: bytes, context: ssl.SSLContext, name: str) -> None:
    if attack.handshake:
        context.wrap_socket(connection, server_hostname=name).close()
        return
    connection.sendall(content)
    connection.recv(65536)


async def _requests(http: Connections, chart: str, *, until: "asyncio.Future[Any]") -> list[float]:
    """Seconds from each request's due time to its answer; none may fail."""
    started = time.perf_counter()
    running = []

    async def one(due: float) -> float:
        answer = await http.send("GET", f"/v2/charts/{chart}")
        assert answer.status == 200, answer.body
        return time.perf_counter() - due

    for number in itertools.count():
        due = started + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        running.append(asyncio.create_task(one(due)))
        if until.done():
            return list(await asyncio.gather(*running))
    raise AssertionError

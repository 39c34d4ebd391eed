"""Callers that do not take their answers lose their place, and those that take them slowly get all of them."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import uvloop

from pilothouse.auth.certificates import CertificateFiles
from pilothouse.http.connections import ConnectionLimits
from pilothouse.http.protocol import GatewayProtocol
from tests.support.gateways import Ports, answer, certificate, serving

#: How long nothing may be read; what takes longer than that must still be read to its end.
WRITE_SECONDS = 0.6


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> ConnectionLimits:
    made = ConnectionLimits(most=20, most_per_address=20)
    monkeypatch.setattr(GatewayProtocol, "limits", made)
    monkeypatch.setattr(GatewayProtocol, "write_seconds", WRITE_SECONDS)
    return made


def run(work: Any) -> None:
    """Run in the event loop that serves."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


@contextlib.asynccontextmanager
async def connected(ports: Ports, door: str, *, window: int = 4096) -> AsyncIterator[socket.socket]:
    """Yield a client whose kernel takes little before the client reads."""
    with contextlib.closing(await asyncio.to_thread(_connect, ports, door, window)) as connection:
        yield connection


def _connect(ports: Ports, door: str, window: int) -> socket.socket:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    raw.settimeout(10)
    raw.connect(("127.0.0.1", getattr(ports, door)))
    if door == "plain":
        return raw
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(raw)


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


class Application:
    """Answers as many bytes as the path says, or without end at ``/stream``."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        try:
            if scope["path"] == "/stream":
                await self._stream(receive, send)
            else:
                await answer(send, bytes(int(scope["path"][1:] or 0)))
        finally:
            self.ended += 1

    def was_asked(self, times: int) -> bool:
        return self.asked >= times

    async def _stream(self, receive: Any, send: Any) -> None:
        gone = asyncio.create_task(self._gone(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": b"data: " + b"x" * 2000, "more_body": True})
            await asyncio.sleep(0.002)

    async def _gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


async def until(condition: Callable[[], bool], *, seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.02)


def _all_of(connection: socket.socket, size: int, seconds: float) -> int:
    """Read so many bytes in so long, or what there is."""
    got = 0
    while got < size and (piece := connection.recv(8192)):
        got += len(piece)
        time.sleep(8192 / size * seconds)
    return got


def _read_for(connection: socket.socket, *, seconds: float) -> None:
    """Read less than half of what the stream sends, about 1 MB/s."""
    began = time.monotonic()
    while time.monotonic() - began < seconds and connection.recv(8192):
        time.sleep(0.006)


@pytest.mark.parametrize("door", ["plain", "tls"])
@pytest.mark.parametrize(
    "sent", [get("/1000000"), get("/1000000", "Connection: close"), get("/300000") * 50, get("/stream")]
)
def test_a_caller_that_reads_nothing_is_ended(
    files: CertificateFiles, limits: ConnectionLimits, sent: bytes, door: str
):
    async def work() -> None:
        application = Application()
        async with serving(application, files) as ports, connected(ports, door) as connection:
            connection.sendall(sent)
            await until(lambda: application.asked > 0)
            assert limits.open == 1
            await until(lambda: limits.open == 0)
            await until(lambda: application.ended == application.asked)

    run(work())


@pytest.mark.parametrize("door", ["plain", "tls"])
@pytest.mark.parametrize(
    ("line", "size", "seconds"),
    [("Accept: x", 1_000_000, 3 * WRITE_SECONDS), ("Connection: close", 8_000_000, 6 * WRITE_SECONDS)],
)
def test_a_caller_that_reads_slowly_gets_all(files: CertificateFiles, door: str, line: str, size: int, seconds: float):
    async def work() -> None:
        async with serving(Application(), files) as ports, connected(ports, door, window=65536) as connection:
            connection.sendall(get(f"/{size}", line))
            got = await asyncio.to_thread(_all_of, connection, size, seconds)
            assert got >= size

    run(work())


@pytest.mark.parametrize("door", ["plain", "tls"])
def test_a_stream_that_is_read_goes_on(files: CertificateFiles, door: str):
    async def work() -> None:
        application = Application()
        async with serving(application, files) as ports, connected(ports, door, window=65536) as connection:
            connection.sendall(get("/stream"))
            await asyncio.to_thread(_read_for, connection, seconds=3 * WRITE_SECONDS)
            assert application.ended == 0

    run(work())


@pytest.mark.parametrize("door", ["plain", "tls"])
def test_answers_that_nobody_reads_do_not_pile_up(
    files: CertificateFiles,
    door: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(GatewayProtocol, "write_seconds", 30.0)

    async def work() -> None:
        application = Application()
        async with serving(application, files) as ports, connected(ports, door) as connection:
            connection.sendall(get("/300000") * 50)
            await asyncio.sleep(0.5)
            asked = application.asked
            assert asked <= 3
            assert await asyncio.to_thread(_all_of, connection, 400_000, 1) >= 400_000
            await until(lambda: application.asked > asked)

    run(work())


@pytest.mark.parametrize(
    "sent",
    [get("/300000"), b"GET / HTTP/1.1\r\nX: " + b"x" * 150_000, get("/0") + get("/300000") + b"x" * 150_000],
    ids=["answers", "heads", "further requests"],
)
def test_what_is_kept_for_callers_that_are_waited_for_has_a_limit(
    files: CertificateFiles, sent: bytes, monkeypatch: pytest.MonkeyPatch
):
    limits = ConnectionLimits(most=20, most_per_address=20, most_bytes=1_000_000)
    monkeypatch.setattr(GatewayProtocol, "limits", limits)
    monkeypatch.setattr(GatewayProtocol, "write_seconds", 30.0)

    async def work() -> None:
        async with serving(Application(), files) as ports, contextlib.AsyncExitStack() as stack:
            for _ in range(20):
                connection = await stack.enter_async_context(connected(ports, "plain"))
                await asyncio.to_thread(connection.sendall, sent)
            await until(lambda: limits.open <= 8)
            assert limits.open >= 2  # that many have room, even if the kernel takes nothing of what waits

    run(work())


@pytest.mark.parametrize("door", ["plain", "tls"])
@pytest.mark.parametrize("sent", [get("/1000000"), get("/300000") * 50])
def test_callers_that_read_nothing_give_way(
    files: CertificateFiles,
    limits: ConnectionLimits,
    door: str,
    sent: bytes,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(GatewayProtocol, "write_seconds", 30.0)

    async def work() -> None:
        application = Application()
        async with serving(application, files) as ports, contextlib.AsyncExitStack() as stack:
            for number in range(1, 26):
                connection = await stack.enter_async_context(connected(ports, door))
                connection.sendall(sent)
                await until(partial(application.was_asked, number))
            asker = await stack.enter_async_context(connected(ports, door))
            asker.sendall(get("/10"))
            assert (await asyncio.to_thread(asker.recv, 65536)).startswith(b"HTTP/1.1 200")
            assert limits.open == 20

    run(work())


@pytest.mark.parametrize("door", ["plain", "tls"])
def test_a_caller_that_ends_its_side_and_reads_nothing_is_ended(
    files: CertificateFiles, limits: ConnectionLimits, door: str
):
    async def work() -> None:
        application = Application()
        async with serving(application, files) as ports, connected(ports, door) as connection:
            connection.sendall(get("/1000000"))
            await until(lambda: application.ended == 1)
            connection.shutdown(socket.SHUT_WR)
            await until(lambda: limits.open == 0)

    run(work())


def test_an_offer_to_upgrade_is_no_news(files: CertificateFiles, caplog: pytest.LogCaptureFixture):
    async def work() -> None:
        async with serving(Application(), files) as ports, connected(ports, "plain") as connection:
            connection.sendall(get("/10", "Connection: upgrade, close", "Upgrade: websocket"))
            assert (await asyncio.to_thread(connection.recv, 65536)).startswith(b"HTTP/1.1 200")

    run(work())
    assert "pgrade" not in caplog.text


@pytest.mark.parametrize("door", ["plain", "tls"])
def test_an_offer_of_http_2_gets_an_answer_and_no_place(files: CertificateFiles, limits: ConnectionLimits, door: str):
    async def work() -> None:
        async with serving(Application(), files) as ports, connected(ports, door) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            assert b"HTTP/1.1 400" in await asyncio.to_thread(_until_closed, connection)
            await until(lambda: limits.open == 0)

    run(work())


def _until_closed(connection: socket.socket) -> bytes:
    got = b""
    while piece := connection.recv(65536):
        got += piece
    return got

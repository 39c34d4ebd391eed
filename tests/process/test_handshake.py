"""TLS connections are counted from their acceptance on, and lose nothing on the way from there to HTTP."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pilothouse.auth.certificates import CertificateFiles
from pilothouse.http.connections import ConnectionLimits
from pilothouse.http.handshake import Handshake
from pilothouse.http.protocol import GatewayProtocol
from tests.support.gateways import answer, certificate, serving

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.SelectorEventLoop], ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Run a coroutine in the loop that serves, and in the one that tests have."""

    def run_in_loop(work: Any) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(work)

    return run_in_loop


@pytest.fixture
def limits() -> Iterator[ConnectionLimits]:
    GatewayProtocol.limits = ConnectionLimits(most=10, most_per_address=10)
    yield GatewayProtocol.limits
    GatewayProtocol.limits = None


async def application(scope: Any, _receive: Any, send: Any) -> None:
    """Answer with what the server knows of the connection."""
    await answer(send, f"{scope['scheme']} {scope['client'][0]}\n".encode())


class Client:
    """A TLS client whose packets the test sends when it likes."""

    def __init__(self, port: int, authority: Path | None) -> None:
        self.raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=authority)
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    def hello(self) -> bytes:
        """Return the first packet."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    def finish(self) -> None:
        """Take the server's packets until the handshake needs no more; what it has to send stays here."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._incoming.write(self._received())
            else:
                return

    def send(self, *, last: bytes = b"", close: bool = False) -> None:
        """All that is left to send, in one packet."""
        if last:
            self.tls.write(last)
        if close:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
        self.raw.sendall(self._outgoing.read())

    def answer(self) -> str:
        """Return the body of the answer, which is complete when it ends in a newline."""
        got = b""
        while not got.partition(b"\r\n\r\n")[2].endswith(b"\n"):
            try:
                got += self.tls.read(65536)
            except ssl.SSLWantReadError:
                self._incoming.write(self._received())
        return got.partition(b"\r\n\r\n")[2].decode().strip()

    def _received(self) -> bytes:
        piece = self.raw.recv(65536)
        assert piece, "the server closed the connection"
        return piece


def test_what_comes_while_the_server_is_busy_is_not_lost(run: Any, files: CertificateFiles):
    async def work() -> None:
        async with serving(application, files) as ports:
            clients = [Client(ports.tls, files.authority) for _ in range(8)]
            for client in clients:
                client.raw.sendall(client.hello())
            time.sleep(0.1)  # noqa: ASYNC251 (the loop finds connections that have sent already)
            for client in clients:
                await asyncio.to_thread(client.finish)
                client.send(last=GET)  # behind the end of the handshake, in the same packet
            time.sleep(0.1)  # noqa: ASYNC251
            for client in clients:
                assert await asyncio.to_thread(client.answer) == "https 127.0.0.1"
                client.raw.close()

    run(work())


def test_a_handshake_of_single_bytes_is_understood(run: Any, files: CertificateFiles):
    async def work() -> None:
        async with serving(application, files) as ports:
            client = Client(ports.tls, files.authority)
            client.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in client.hello():
                client.raw.sendall(bytes([byte]))
                await asyncio.sleep(0)
            await asyncio.to_thread(client.finish)
            client.send(last=GET)
            assert await asyncio.to_thread(client.answer) == "https 127.0.0.1"
            client.raw.close()

    run(work())


def test_a_handshake_that_trickles_ends_in_time(run: Any, files: CertificateFiles, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Handshake, "seconds", 0.5)

    async def work() -> None:
        async with serving(application, files) as ports:
            client = Client(ports.tls, files.authority)
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for byte in client.hello():
                    client.raw.sendall(bytes([byte]))
                    await asyncio.sleep(0.05)
            assert 0.4 < time.monotonic() - began < 5
            client.raw.close()

    run(work())


def test_a_client_that_asks_and_leaves_gives_its_place_back(
    run: Any, files: CertificateFiles, limits: ConnectionLimits
):
    async def work() -> None:
        async with serving(application, files) as ports:
            for _ in range(30):  # three times as many as there are places
                client = Client(ports.tls, files.authority)
                client.raw.sendall(client.hello())
                await asyncio.to_thread(client.finish)
                client.send(last=GET, close=True)
                client.raw.close()
            async with asyncio.timeout(5):
                while limits.open:  # noqa: ASYNC110 (connections end by themselves)
                    await asyncio.sleep(0.01)

    run(work())


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01"])
def test_who_begins_no_handshake_holds_a_counted_place(
    run: Any, files: CertificateFiles, limits: ConnectionLimits, sent: bytes
):
    async def work() -> None:
        async with serving(application, files) as ports:
            held = []
            for _ in range(30):
                held.append(socket.create_connection(("127.0.0.1", ports.tls), timeout=10))
                held[-1].sendall(sent)
            await asyncio.sleep(0.2)
            assert limits.open <= 10
            for connection in held:
                connection.close()

    run(work())


def test_handshakes_under_way_do_not_hold_up_the_end_of_the_server(run: Any, files: CertificateFiles):
    async def work() -> None:
        async with serving(application, files) as ports:
            silent = [socket.create_connection(("127.0.0.1", ports.tls), timeout=10) for _ in range(5)]
            await asyncio.sleep(0.1)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        for connection in silent:
            assert connection.recv(1) == b""
            connection.close()

    run(work())


def test_a_client_that_does_not_say_goodbye_is_not_waited_for(run: Any, files: CertificateFiles):
    async def work() -> None:
        async with serving(application, files) as ports:
            client = Client(ports.tls, files.authority)
            client.raw.sendall(client.hello())
            await asyncio.to_thread(client.finish)
            client.send(last=GET)
            await asyncio.to_thread(client.answer)
            began = time.monotonic()
        assert time.monotonic() - began < 4
        client.raw.close()

    run(work())

"""A child that asks for connections gets those of its call, at a bounded cost, and leaves nothing open."""

import asyncio
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pilothouse.engine import connections
from pilothouse.engine.connections import Connections

CALL = 7
DEAD = ("127.255.255.254", 1)
#: The loop opens some files, too.
FEW = 8

Ask = Callable[..., None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Yield a loop of the kind of the tests, and one of the kind of the server."""
    with asyncio.Runner(loop_factory=request.param) as made:
        yield made


class Child:
    """The child's end, and the parent's."""

    def __init__(self, *, qps: float = 1000, burst: int = 1000) -> None:
        ours, self.end = socket.socketpair()
        self.connections = Connections(ours, qps=qps, burst=burst)
        self.end.setblocking(False)
        self.misused = asyncio.Event()

    def begin(self, *addresses: tuple[str, int], call: int = CALL) -> None:
        self.connections.begin(call, addresses, on_misuse=self.misused.set)

    def ask(self, number: int, *, call: int = CALL) -> None:
        self.end.send(struct.pack("!II", call, number))

    async def answer(self) -> tuple[int, int, socket.socket | None]:
        """Return the number of the request, what was found, and the connection."""
        async with asyncio.timeout(10):
            while True:
                try:
                    data, descriptors, _, _ = socket.recv_fds(self.end, 8, 4)
                except BlockingIOError:
                    await asyncio.sleep(0.001)
                else:
                    number, found = struct.unpack("!Ii", data)
                    return number, found, socket.socket(fileno=descriptors[0]) if descriptors else None

    def close(self) -> None:
        self.connections.close()
        self.end.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as made:
        made.setblocking(False)
        yield made


@pytest.fixture
def full() -> Iterator[tuple[str, int]]:
    """Yield the address of a server that takes no more connections: who connects waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as made:
        address: tuple[str, int] = made.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        yield address
        for one in waiting:
            one.close()


def accepted(server: socket.socket) -> int:
    """How many connections came."""
    count = 0
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_it_gets_a_connection_to_the_first_address_that_accepts(runner: asyncio.Runner, server: socket.socket):
    async def run() -> None:
        with closing(Child()) as child:
            child.begin(DEAD, server.getsockname())
            for number in (1, 2):
                child.ask(number)
                answered, found, made = await child.answer()
                assert made is not None
                with made:
                    assert (answered, found, made.getpeername()) == (number, 1, server.getsockname())

    runner.run(run())


def test_it_hears_why_there_is_none(runner: asyncio.Runner, full: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "_CONNECT_SECONDS", 0.05)

    async def run() -> None:
        for address, why in ((DEAD, errno.ECONNREFUSED), (full, errno.ETIMEDOUT)):
            with closing(Child()) as child:
                child.begin(address)
                child.ask(1)
                assert await child.answer() == (1, -why, None)

    runner.run(run())


def test_a_request_of_another_call_gets_none(runner: asyncio.Runner, server: socket.socket):
    """One that came too late must not be answered with the next cluster's."""

    async def run() -> None:
        with closing(Child()) as child:
            child.begin(server.getsockname())
            child.ask(1, call=CALL - 1)
            child.ask(2)
            number, _, made = await child.answer()
            assert number == 2
            assert made is not None
            made.close()
            child.connections.end()
            child.ask(3)
            child.begin(server.getsockname(), call=CALL + 1)
            child.ask(4, call=CALL + 1)
            number, _, made = await child.answer()
            assert number == 4
            assert made is not None
            made.close()

    runner.run(run())
    assert accepted(server) == 2


def test_what_is_no_request_is_told(runner: asyncio.Runner, server: socket.socket):
    async def run() -> None:
        with closing(Child()) as child:
            child.begin(server.getsockname())
            child.end.send(b"other")
            async with asyncio.timeout(10):
                await child.misused.wait()

    runner.run(run())
    assert accepted(server) == 0


def test_the_end_of_the_child_ends_what_is_under_way(
    runner: asyncio.Runner, server: socket.socket, full: tuple[str, int]
):
    """In each order: with requests unread, while one connects, with answers unread; nothing is open then."""
    before = open_files()

    async def run() -> None:
        for address in (server.getsockname(), full):
            for pause in (None, 0.0, 0.02):
                child = Child()
                child.begin(address)
                for number in range(5):
                    child.ask(number)
                if pause is not None:
                    await asyncio.sleep(pause)
                child.end.close()
                await asyncio.sleep(0.01)
                child.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)

    runner.run(run())
    accepted(server)
    assert open_files() == before


def test_a_thousand_requests_are_connected_a_few_at_a_time(runner: asyncio.Runner, full: tuple[str, int]):
    before = open_files()

    async def run() -> int:
        with closing(Child(burst=10_000)) as child:
            child.begin(full)
            for number in range(1000):
                with suppress(BlockingIOError):  # nobody reads on
                    child.ask(number)
                await asyncio.sleep(0)
            return open_files()

    assert runner.run(run()) - before <= connections._AT_ONCE + FEW


def test_connections_that_the_child_does_not_take_hold_up_only_its_own(runner: asyncio.Runner, server: socket.socket):
    before = open_files()

    async def run() -> Any:
        with closing(Child(burst=10_000)) as child:
            child.begin(server.getsockname())
            number, seen, rounds = 0, -1, 0
            while seen != number or rounds < 100:
                rounds = rounds + 1 if seen == number else 0
                seen = number
                with suppress(BlockingIOError):
                    child.ask(number)
                    number += 1
                await asyncio.sleep(0)
            held = open_files()
            # It takes them after all, and gets every one.
            for _ in range(number):
                made = (await child.answer())[2]
                assert made is not None
                made.close()
            return number, held

    asked, held = runner.run(run())
    assert asked > connections._AT_ONCE
    assert held - before <= connections._AT_ONCE + FEW


def test_more_than_the_limits_of_requests_allow_have_to_wait(runner: asyncio.Runner, server: socket.socket):
    async def run() -> float:
        started = time.monotonic()
        with closing(Child(qps=10, burst=5)) as child:
            child.begin(server.getsockname())
            for number in range(100):
                child.ask(number)
            for _ in range(7):
                made = (await child.answer())[2]
                assert made is not None
                made.close()
        return time.monotonic() - started

    seconds = runner.run(run())
    assert 7 <= accepted(server) <= 5 + 1 + seconds * 10 + 1

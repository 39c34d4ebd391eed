"""Connections for a child, which has no right to make any: it asks here, and gets connected sockets.

A request names the call and no address. So whoever took over a child can reach the API server of the kubeconfig in its
current call, which it has anyway, and nothing else. The other side is ``engine/connect.go``.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

#: The number of the call, and one that the child gave to the request.
_REQUEST: Final = struct.Struct("!II")
#: The child's number, and which of the call's addresses the attached socket leads to, or a negative errno without one.
_ANSWER: Final = struct.Struct("!Ii")
_CONNECT_SECONDS: Final = 5.0
_AT_ONCE: Final = 32

#: An IP address and a port.
SocketAddress = tuple[str, int]


class Connections:
    """The parent's end of the socket on which one child asks for connections; it belongs to one event loop."""

    def __init__(self, channel: socket.socket, *, qps: float, burst: int) -> None:
        """Take over ``channel``. A call gets ``burst`` connections at once, and then ``qps`` in a second.

        Those are its limits of requests: where each needs a connection of its own, that is enough.
        """
        channel.setblocking(False)
        self._channel = channel
        self._qps, self._burst = qps, burst
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()

    def begin(self, call: int, addresses: Sequence[SocketAddress], *, on_misuse: Callable[[], None]) -> None:
        """Connect the child to the first address that accepts, whenever it asks, until ``end``.

        ``on_misuse`` is called if it sends what no child of ours sends.
        """
        if addresses:
            self._start(self._serve(call, addresses, on_misuse))

    def end(self) -> None:
        """Stop connecting; requests of this call that arrive later are not answered."""
        for task in self._tasks:
            task.cancel()

    def close(self) -> None:
        """Close the socket."""
        self.end()
        self._channel.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, call: int, addresses: Sequence[SocketAddress], on_misuse: Callable[[], None]) -> None:
        loop, places, left = asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE), self._burst
        with suppress(OSError):  # the child has ended
            while request := await loop.sock_recv(self._channel, _REQUEST.size):
                if len(request) != _REQUEST.size:
                    on_misuse()
                    return
                during, number = _REQUEST.unpack(request)
                if during == call:  # not of one that has ended
                    await places.acquire()
                    self._start(self._answer(number, addresses)).add_done_callback(lambda _: places.release())
                left -= 1
                await asyncio.sleep(0 if left >= 0 else 1 / self._qps)  # requests that wait would keep the loop

    async def _answer(self, number: int, addresses: Sequence[SocketAddress]) -> None:
        failure = errno.EHOSTUNREACH
        for index, address in enumerate(addresses):
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    made = await _connect(address)
                with made:
                    await self._send(_ANSWER.pack(number, index), made.fileno())
            except TimeoutError:
                failure = errno.ETIMEDOUT
            except OSError as error:
                failure = error.errno or failure
            else:
                return
        with suppress(OSError):  # the child has ended
            await self._send(_ANSWER.pack(number, -failure))

    async def _send(self, answer: bytes, *descriptors: int) -> None:
        """Send an answer as soon as the child has taken enough of those before it."""
        async with self._sending:
            while True:
                try:
                    socket.send_fds(self._channel, [answer], descriptors)
                except BlockingIOError:
                    await _writable(self._channel)
                else:
                    return


async def _connect(address: SocketAddress) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


async def _writable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(channel, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(channel)

"""TLS connections from acceptance on: counted before the handshake, which clients may never finish.

An event loop that listens with TLS calls ``connection_made`` only after the handshake, too late to count anything. So
it listens without TLS, and the counted connection is upgraded.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, ClassVar, Final

import structlog

from pilothouse.http.protocol import GatewayProtocol

#: The protocol that takes over ends it sooner, but not while the peer takes what is left of its answer.
_SHUTDOWN_SECONDS: Final = 24 * 3600.0

log = structlog.get_logger(__name__)


class Handshake(asyncio.Protocol):
    """Hold a counted place during the TLS handshake, then hand it over to the HTTP protocol."""

    #: Set by the server that makes these: how long a handshake may take in all, however its bytes come.
    seconds: ClassVar[float] = 10.0

    address = ""
    _next: GatewayProtocol | None = None
    _lost = False
    _ended = False

    def __init__(self, context: ssl.SSLContext, speak: Callable[[], GatewayProtocol], open_: set[Any]) -> None:
        """``speak`` creates the inner protocol; ``open_`` is the set that the server closes when it stops."""
        self._context = context
        self._speak = speak
        self._open = open_
        self._loop = asyncio.get_running_loop()
        self._outer: list[bytes] = []
        self._inner: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # streams have this one
        """Admit the connection and begin the handshake."""
        transport.pause_reading()  # the client's first bytes belong to the handshake; uvloop reads some anyway
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        limits = GatewayProtocol.limits
        if limits is not None and not limits.admit(self):
            log.info("connection_refused", address=self.address)
            transport.abort()
            return
        self._open.add(self)
        self._task = self._loop.create_task(self._upgrade())

    def data_received(self, data: bytes) -> None:
        """Keep early data: before TLS has begun, or right after the handshake."""
        (self._outer if self._transport.get_protocol() is self else self._inner).append(data)

    def eof_received(self) -> None:
        """Note that the client has sent everything; the connection closes by itself."""
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection no longer, or tell the protocol that has taken it over."""
        self._lost = True
        self._release()
        if self._next is not None:
            self._next.connection_lost(exc)

    def give_way(self) -> None:
        """Close the connection in favour of a new one."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Close the connection because the server stops: nothing has been requested yet."""
        self._transport.abort()

    async def _upgrade(self) -> None:
        secure: asyncio.Transport | None = None
        beginning = self._loop.create_task(self._begin())
        self._loop.call_soon(self._schedule_feed)  # behind the first step of that, and so behind what it schedules
        try:
            secure = await beginning
        except (OSError, RuntimeError) as error:  # uvloop says RuntimeError of a connection that has gone
            log.debug("handshake_failed", address=self.address, reason=str(error))
        self._release()
        if secure is None or self._lost or (secure.is_closing() and not self._inner):
            self._transport.abort()
            return
        self._hand_over(secure)

    async def _begin(self) -> asyncio.Transport | None:
        if self._transport.is_closing():
            return None
        return await self._loop.start_tls(
            self._transport,
            self,
            self._context,
            server_side=True,
            ssl_handshake_timeout=self.seconds,
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )

    def _schedule_feed(self) -> None:
        if self._outer:
            self._loop.call_soon(self._feed)

    def _feed(self) -> None:
        """Pass the data that was read before the TLS layer existed to the TLS layer, which has read nothing yet."""
        layer: Any = self._transport.get_protocol()  # an asyncio.BufferedProtocol, if the upgrade has begun
        left = memoryview(b"".join(self._outer))
        while left and layer is not self and not self._transport.is_closing():
            buffer = memoryview(layer.get_buffer(len(left)))
            count = min(len(buffer), len(left))
            buffer[:count] = left[:count]
            layer.buffer_updated(count)
            left = left[count:]

    def _hand_over(self, secure: asyncio.Transport) -> None:
        self._next = self._speak()
        self._next.wire = self._transport
        secure.set_protocol(self._next)
        self._next.connection_made(secure)
        if self._inner:
            self._next.data_received(b"".join(self._inner))
        if self._ended:
            self._next.eof_received()

    def _release(self) -> None:
        self._open.discard(self)
        if GatewayProtocol.limits is not None:
            GatewayProtocol.limits.release(self)

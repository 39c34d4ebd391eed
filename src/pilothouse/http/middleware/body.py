"""The complete body of a request, read before anything acts on it: counted, hashed, and kept for the application.

A body has a total time: a slow one occupies a connection, and its credentials age meanwhile. Every request is read to
its end, GET and DELETE too: the vendor's Node SDK sends and signs ``{}`` with a GET, and its Java SDK sends every body
chunked, without a length. What exceeds ``memory_bytes`` is in an unnamed temporary file. A refusal while a body is
still arriving is answered at once, and further data is discarded for a while: closing a connection with unread data
makes the peer's kernel discard the answer.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Final

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from pilothouse.auth.schemes import Digest
from pilothouse.http.gateway_errors import BAD_REQUEST, BODY_STALLED, BODY_TOO_LARGE, GatewayError

_REPLAY_BYTES: Final = 64 * 1024
_LENGTH_DIGITS: Final = 20  # int() of a number of a million digits is an attack of its own
_LINGER_SECONDS: Final = 10.0
_LINGER_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pace:
    """Minimum speed of a body: total seconds, plus one for each so many received bytes."""

    seconds: float = 60.0
    bytes_per_second: float = 64 * 1024


USUAL_PACE: Final = Pace()


class ClientGoneError(Exception):
    """The caller closed the connection before its request was complete; nobody waits for an answer."""


class Body:
    """One complete body; ``digest`` is lower-case hex."""

    def __init__(self, spool: "SpooledTemporaryFile[bytes]", *, size: int, digest: str) -> None:
        self._spool = spool
        self.size = size
        self.digest = digest

    def replay(self, receive: Receive) -> Receive:
        """Return a ``receive`` that yields the body in pieces of 64 KiB, and then the server's messages."""
        left = self.size
        done = False
        self._spool.seek(0)

        async def replayed() -> Message:
            nonlocal left, done
            if done:
                return await receive()
            piece = self._spool.read(min(left, _REPLAY_BYTES))
            left -= len(piece)
            done = left == 0
            return {"type": "http.request", "body": piece, "more_body": not done}

        return replayed

    def close(self) -> None:
        """Free the memory or the temporary file."""
        self._spool.close()


class Incoming:
    """A ``receive`` that knows whether parts of the request are still to arrive."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        #: True until the last part was taken; False from the start if the headers announce no body
        #: (RFC 9112, section 6.3).
        self.pending = any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in scope["headers"]
        )

    async def __call__(self) -> Message:
        """Return the server's next message."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.pending = False
        return message


def check_length(scope: Scope, *, limit: int) -> None:
    """Refuse a request whose Content-Length is over the limit, before any of its body is read.

    A length together with Transfer-Encoding is refused too: a proxy in front may believe the other one, and would then
    take a part of this request for the next (RFC 9112, section 6.1).
    """
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    if lengths and any(name == b"transfer-encoding" for name, _ in scope["headers"]):
        raise GatewayError(BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other; send one")
    for value in lengths:
        if not value.isdigit() or len(value) > _LENGTH_DIGITS:
            raise GatewayError(BAD_REQUEST, "Content-Length is not a number of bytes")
        _check_size(int(value), limit)


async def read_body(
    receive: Receive,
    *,
    limit: int,
    memory_bytes: int,
    pace: Pace = USUAL_PACE,
    new_digest: Callable[[], Digest] = hashlib.sha256,
    on_spool: Callable[[int], None] = lambda _: None,
    on_memory: Callable[[int], None] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Body:
    """Return the complete body, at most ``limit`` bytes; close it when the response is finished.

    ``on_spool`` is called for each piece on disk, and may refuse it; ``on_memory`` with the bytes in memory. Raises
    GatewayError (too large, or slower than ``pace``) and ClientGoneError.
    """
    began = monotonic()
    spool: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(max_size=memory_bytes)  # noqa: SIM115 - Body closes it
    digest = new_digest()
    size, more = 0, True
    try:
        while more:
            left = pace.seconds + size / pace.bytes_per_second - (monotonic() - began)
            piece, more = await _next_piece(receive, left)
            _check_size(size + len(piece), limit)
            if size + len(piece) > memory_bytes:
                on_spool(len(piece) if size > memory_bytes else size + len(piece))
            size += len(piece)
            digest.update(piece)
            spool.write(piece)
            on_memory(size if size <= memory_bytes else 0)
    except BaseException:
        spool.close()
        raise
    return Body(spool, size=size, digest=digest.hexdigest())


async def refuse_unread(
    response: Response,
    scope: Scope,
    incoming: Incoming,
    send: Send,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    linger_seconds: float = _LINGER_SECONDS,
) -> None:
    """Answer while the body may still be arriving; then the connection closes.

    The rest is discarded up to a limit of time and bytes, because most clients send everything before they read.
    """
    response.headers["connection"] = "close"
    held: list[Message] = []

    async def send_all_but_the_end(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            held.append({"type": "http.response.body", "body": b"", "more_body": False})
            message = {**message, "more_body": True}
        await send(message)

    await response(scope, incoming, send_all_but_the_end)
    await _discard(incoming, until=monotonic() + linger_seconds, monotonic=monotonic)
    for message in held:
        await send(message)


async def _discard(incoming: Incoming, *, until: float, monotonic: Callable[[], float]) -> None:
    left = _LINGER_BYTES
    while incoming.pending and left > 0 and (seconds := until - monotonic()) > 0:
        try:
            async with asyncio.timeout(seconds):
                message = await incoming()
        except TimeoutError:
            return
        left -= len(message.get("body", b""))


async def _next_piece(receive: Receive, seconds: float) -> tuple[bytes, bool]:
    """Return the next piece, and whether more will come."""
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
    except TimeoutError:
        raise GatewayError(BODY_STALLED, "the body arrives too slowly; retry over a faster connection") from None
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message.get("body", b""), message.get("more_body", False)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise GatewayError(BODY_TOO_LARGE, f"the limit is {limit} bytes")

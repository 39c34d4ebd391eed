"""HTTP/1.1 by uvicorn, with limits against unauthenticated clients that could stop it.

- Invalid HTTP is refused in JSON too: a request that cannot be parsed never becomes an ASGI call, so no middleware can
  shape its answer, and the vendor's SDKs fail with a decoding error on plain text.
- A head must arrive in time, and has a limited number of lines, as has the trailer of a body: h11 takes 8 microseconds
  for each, and nobody else is served meanwhile. For the same reason, chunks must have a minimum size on average.
- Connections are counted, see ``http.connections``, and end if their peer does not read its answer. The next request
  of a connection is begun when the last answer is almost read, so only one answer is in memory.
"""

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, ClassVar, Final

import h11
import structlog
from h11._receivebuffer import ReceiveBuffer, blank_line_regex
from uvicorn.protocols.http.h11_impl import H11Protocol

from pilothouse.http.connections import ConnectionLimits, RequestObserver, remember_observer
from pilothouse.http.gateway_errors import BAD_REQUEST, BODY_STALLED, HEADERS_TOO_LARGE, GatewayCode, error_body
from pilothouse.http.middleware.request_id import new_request_id
from pilothouse.http.progress import Progress

_LINGER_SECONDS: Final = 2.0
#: A head that is too large is not refused sooner, nor anything read until then: who sends it as fast as it is answered
#: sends less.
_REFUSAL_SECONDS: Final = 0.1
_HEAD_TOO_LARGE: Final = 431  # h11's hint; the vendor's gateway says 494
_HEAD_LINES: Final = 257  # with that of the request
#: Chunks may be as small as they like up to here; after that they must hold so many bytes on average.
_FREE_CHUNKS: Final = 256
_BYTES_PER_CHUNK: Final = 1024
#: What may be unsent, in this process and again in the kernel, while further answers are made.
_UNSENT_BYTES: Final = 64 * 1024
_LOOK_SECONDS: Final = 1.0
_FORGET: Final = struct.pack("ii", 1, 0)  # struct linger

log = structlog.get_logger(__name__)


class _Buffer(ReceiveBuffer):
    """Refuse heads and trailers of too many lines before h11 parses each."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Return the lines up to an empty one, if that has arrived; raise RemoteProtocolError for too many."""
        if self._data.count(b"\n") > _HEAD_LINES and not self._data.startswith((b"\n", b"\r\n")):
            last = -1
            for _ in range(_HEAD_LINES + 1):  # an end beyond these is not looked for: that takes a while for each line
                last = self._data.find(b"\n", last + 1)
            if blank_line_regex.search(self._data, 0, last + 1) is None:
                reason = f"more than {_HEAD_LINES - 1} header lines"
                raise h11.RemoteProtocolError(reason, error_status_hint=_HEAD_TOO_LARGE)
        lines: list[bytearray] | None = super().maybe_extract_lines()
        return lines


class _Connection(h11.Connection):
    """Refuse bodies in chunks that cost more than their content, and count the bytes to send."""

    sent = 0
    _chunks = 0
    _chunk_bytes = 0

    def __init__(self, head_bytes: int) -> None:
        """``head_bytes`` is the maximum size of a head."""
        super().__init__(h11.SERVER, head_bytes)
        self._receive_buffer = _Buffer()

    @property
    def pending(self) -> int:
        """The number of received bytes that are not parsed yet."""
        return len(self._receive_buffer)

    def send(self, event: Any) -> bytes | None:  # type: ignore[override]  # h11 tells more of its types
        """Return h11's bytes for the event."""
        data: bytes | None = super().send(event)
        self.sent += len(data or b"")
        return data

    def next_event(self) -> Any:
        """Return h11's next event; raise RemoteProtocolError for chunks that are too small."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._chunk_bytes = 0
        elif isinstance(event, h11.Data) and event.chunk_start:
            self._chunks += 1
            self._chunk_bytes += len(event.data)
            if self._chunks > _FREE_CHUNKS + self._chunk_bytes // _BYTES_PER_CHUNK:
                raise h11.RemoteProtocolError(f"chunks of less than {_BYTES_PER_CHUNK} bytes on average")
        return event


class _RequestObserver(RequestObserver):
    """Observes one request, whose connection may have ended."""

    def __init__(self, protocol: "GatewayProtocol") -> None:
        self._protocol = protocol
        self.proven = False
        self.held = 0

    def prove(self) -> None:
        self.proven = True
        self._protocol.known = True
        self._protocol.rank()

    def hold(self, count: int) -> None:
        self.held = count
        self._protocol.rank()


class GatewayProtocol(H11Protocol):
    """One connection; its first unparsable byte gets one JSON error, and the connection then closes."""

    #: Set by the server that makes these; without them nothing is limited.
    limits: ClassVar[ConnectionLimits | None] = None
    head_seconds: ClassVar[float] = 10.0
    write_seconds: ClassVar[float] = 30.0

    conn: _Connection
    address = ""
    #: What lies under the transport, if that encrypts.
    wire: asyncio.Transport | None = None
    #: Whether it has carried a request of somebody whom we know.
    known = False
    _refused = False
    _held = False
    _ended = False
    _head_timer: asyncio.TimerHandle | None = None
    _looking: asyncio.TimerHandle | None = None
    _answering: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Admit the connection, whose first head must arrive in time."""
        super().connection_made(transport)
        self.conn = _Connection(self.config.h11_max_incomplete_event_size or 0)
        self.address = self.client[0] if self.client else ""
        self._observer = _RequestObserver(self)
        self._progress = Progress(*filter(None, (transport, self.wire)), now=self.loop.time())
        if self.limits is not None and not self.limits.admit(self):
            log.info("connection_refused", address=self.address)
            self._refused = True
            transport.abort()
            return
        transport.set_write_buffer_limits(_UNSENT_BYTES)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Without it the kernel keeps megabytes for a peer that reads nothing, and tells us that they are sent.
            self._set(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._look_later()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection no longer."""
        self._cancel_head_timer()
        for timer in (self._looking, self._answering):
            if timer is not None:
                timer.cancel()
        if self.limits is not None:
            self.limits.release(self)
        super().connection_lost(exc)

    def give_way(self) -> None:
        """Close the connection, whose peer has to act, in favour of a new one."""
        self._refused = True
        self._drop()

    def data_received(self, data: bytes) -> None:
        """Process received data; after a refusal it is discarded."""
        if self._refused:
            return
        self._go_on()
        if self.conn.their_state is h11.IDLE and self._head_timer is None:
            self._expect_head()
        super().data_received(data)

    def handle_events(self) -> None:
        """Handle what has arrived; a complete head needs no timer any more."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._observer = _RequestObserver(self)
            remember_observer(self.scope, self._observer)
            self.rank(renew=True)
        else:
            self.rank()
        if self.conn.their_state is not h11.IDLE:
            self._cancel_head_timer()

    def _unsupported_upgrade_warning(self) -> None:
        """Do nothing: an upgrade is an offer, and clients could fill the log with these lines."""

    def pause_writing(self) -> None:
        """Make the application wait for the peer to read; the connection may be closed meanwhile."""
        super().pause_writing()
        self.rank(renew=True)

    def resume_writing(self) -> None:
        """Let the application write, or continue with the next request."""
        super().resume_writing()
        self.rank(renew=True)
        self._go_on()

    def on_response_complete(self) -> None:
        """Continue with the next request as soon as nearly all of this answer was read."""
        self._observer = _RequestObserver(self)
        self.rank(renew=True)
        self._held = True
        self._go_on()

    def _go_on(self) -> None:
        """Begin the next request, whose head may have arrived already."""
        if not self._held or self._progress.unsent() > _UNSENT_BYTES:
            return
        self._held = False
        super().on_response_complete()
        if self.conn.pending and self.conn.their_state is h11.IDLE and not self._refused:
            self._expect_head()

    def send_400_response(self, msg: str) -> None:
        """Answer 400, or 494 for a head that is too large; uvicorn calls it while it handles h11's exception."""
        cause = sys.exception()
        too_large = isinstance(cause, h11.RemoteProtocolError) and cause.error_status_hint == _HEAD_TOO_LARGE
        if too_large:
            self._refuse(HEADERS_TOO_LARGE, f"the request head is too large: {cause}", cause=str(cause))
        else:
            self._refuse(BAD_REQUEST, "this is not valid HTTP/1.1", cause=str(cause or msg))

    def _is_busy(self) -> bool:
        """Return True if the peer waits for us, and not we for it."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self.flow.write_paused or self._refused:
            return False
        return self._observer.proven or not cycle.more_body

    def rank(self, *, renew: bool = False) -> None:
        """Report what the connection holds and whether it may be closed; with ``renew``, as the last one of all."""
        if self.limits is None:
            return
        if self._is_busy():
            self.limits.works(self)
        elif renew:
            self.limits.waits(self, known=self.known)
        pending = self.conn.pending + (len(self.cycle.body) if self.cycle else 0)
        self.limits.weighs(self, pending + self._observer.held + self._progress.unsent())

    def _look(self) -> None:
        """Check that the peer reads its answer, and close the connection if not."""
        now = self.loop.time()
        self._look_later()
        self.rank(renew=self._progress.look(self.conn.sent, now))
        self._go_on()
        ended = self.transport.is_closing() and not self._progress.unsent()
        if self._progress.stalled_seconds(now) > self.write_seconds or (ended and self._ended):
            if not ended:
                log.info("connection_stalled", address=self.address, unsent=self._progress.unsent())
            self._refused = True
            self._drop()
        self._ended = ended

    def _look_later(self) -> None:
        self._looking = self.loop.call_later(min(_LOOK_SECONDS, self.write_seconds / 4), self._look)

    def _drop(self) -> None:
        if self._progress.unsent():
            # The kernel would keep what it has of the answer for minutes, for a peer that does not take it.
            self._set(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET)
        self.transport.abort()

    def _set(self, level: int, option: int, value: int | bytes) -> None:
        own = self.transport.get_extra_info("socket")
        if own is not None:  # unless it has gone
            with suppress(OSError):
                own.setsockopt(level, option, value)

    def _expect_head(self) -> None:
        self._cancel_head_timer()
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self._refused:
            return
        if not self.conn.pending and self.cycle is None:
            # An answer to nothing would be taken for that to the first request, which may be on its way.
            self._refused = True
            self.transport.close()
        else:
            self._refuse(BODY_STALLED, f"no complete request head arrived in {self.head_seconds:g} s")

    def _refuse(self, code: GatewayCode, detail: str, *, cause: str = "") -> None:
        request_id = new_request_id()
        self._refused = True
        self._cancel_head_timer()
        log.info("request_unparsable", request_id=request_id, status=code.status, reason=(cause or detail)[:200])
        if self.cycle is not None and not self.cycle.response_complete:
            # The body of a running request broke off into nonsense: its reader must wake up and stop.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.rank(renew=True)
        answer = (code.status, error_body(code, request_id=request_id, detail=detail), request_id)
        if code is not HEADERS_TOO_LARGE:
            self._answer_refused(*answer)
            return
        self.flow.pause_reading()
        self._answering = self.loop.call_later(_REFUSAL_SECONDS, self._answer_refused, *answer)

    def _answer_refused(self, status: int, body: bytes, request_id: str) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._write_last_response(status, body, request_id)
        self._close_gently()

    def _write_last_response(self, status: int, body: bytes, request_id: str) -> None:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        head = h11.Response(status_code=status, headers=headers)
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _close_gently(self) -> None:
        """Close our direction now and the connection soon: unread data would destroy the answer on its way."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

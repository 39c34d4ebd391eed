"""HTTP/1.1 as uvicorn speaks it, except that what is no HTTP is refused in JSON too.

A request that cannot be parsed never becomes an ASGI call, so that no middleware can shape its answer; the vendor's
SDKs fail with a decoding error of their own on uvicorn's plain text.
"""

import sys
from typing import Final

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from pilothouse.gateway.errors import BAD_REQUEST, HEADERS_TOO_LARGE, error_body
from pilothouse.gateway.request_id import new_request_id

_LINGER_SECONDS: Final = 2.0
_HEAD_TOO_LARGE: Final = 431  # h11's hint; the vendor's gateway says 494

log = structlog.get_logger(__name__)


class GatewayProtocol(H11Protocol):
    """One connection; its first unparsable byte gets one JSON error, and the connection then closes."""

    _refused = False

    def data_received(self, data: bytes) -> None:
        """Takes what the peer sent; after a refusal it is thrown away."""
        if not self._refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answers 400, or 494 for a head that is too large; called by uvicorn while it handles h11's exception."""
        cause = sys.exception()
        too_large = isinstance(cause, h11.RemoteProtocolError) and cause.error_status_hint == _HEAD_TOO_LARGE
        code = HEADERS_TOO_LARGE if too_large else BAD_REQUEST
        detail = "the request head is too large" if too_large else "this is not valid HTTP/1.1"
        request_id = new_request_id()
        self._refused = True
        log.info("request_unparsable", request_id=request_id, status=code.status, reason=str(cause or msg)[:200])
        if self.cycle is not None and not self.cycle.response_complete:
            # The body of a running request broke off into nonsense: its reader must wake up and stop.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = error_body(code, request_id=request_id, detail=detail)
            self._write_last_response(code.status, body, request_id)
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
        """Closes our direction now and the connection soon: data left unread would destroy the answer on its way."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

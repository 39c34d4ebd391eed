"""Connections to API servers, and descriptions of their failures."""

import asyncio
import os
import ssl
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler

_MOST_CONNECTIONS = 32
_KEPT_SECONDS = 60.0
_RECEIVED_AT_ONCE = 64 * 1024
_MOST_WAITING_ANSWERS = 8


class _Answers(ResponseHandler):
    """Receive the answers of one connection, and close it if many arrive that nobody waits for.

    A peer may send endless interim (1xx) or unrequested answers. The library keeps them all: 160 MiB per second, and it
    reads nothing else meanwhile.
    """

    _is_cut = False

    def close(self) -> None:
        """Break the connection off: an orderly end of TLS reads for 30 s what the peer goes on sending."""
        super().abort()

    def data_received(self, data: bytes) -> None:
        """Process received data in pieces, and check after each how much of it is waiting."""
        if self._is_cut:
            return
        for start in range(0, len(data) or 1, _RECEIVED_AT_ONCE):
            super().data_received(data[start : start + _RECEIVED_AT_ONCE])
            if len(self) > _MOST_WAITING_ANSWERS:
                self.set_exception(aiohttp.ClientPayloadError("unrequested answers"))
                self._buffer.clear()
                self._is_cut = True
                if self.transport is not None:  # not now: TLS is still at work on what came
                    asyncio.get_running_loop().call_soon(self.transport.abort)
                return


def _receive(*, loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Answers(loop)


class _Connector(aiohttp.TCPConnector):
    """Connections whose answers are counted; the library has no public way to choose their receiver."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(ssl=tls, limit=_MOST_CONNECTIONS, keepalive_timeout=_KEPT_SECONDS)
        self._factory = partial(_receive, loop=asyncio.get_running_loop())


def new_session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    """Return a session with persistent connections and no browser features: cookies, proxies, redirects, inflating."""
    return aiohttp.ClientSession(
        connector=_Connector(tls), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
    )


def describe_failure(error: BaseException) -> str:
    """Return the reason in the words of the system or the TLS library; never in the peer's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            cause = cause.certificate_error
        elif isinstance(cause, aiohttp.ClientConnectorError):
            cause = cause.os_error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({(cause.reason or 'unknown reason').replace('_', ' ').lower()})"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return "it closed the connection, or does not speak HTTP"
    if isinstance(error, aiohttp.ClientConnectionError):
        return "the connection broke"
    return type(error).__name__

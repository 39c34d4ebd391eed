"""Requests to servers that a setting or a document names: vetted addresses, a limit of bytes, no redirects.

The name is resolved here and the connection goes to a vetted address, so that a name cannot change between check and
use. Nothing is inflated: an inflated answer has no size limit.
"""

import ssl
from collections.abc import AsyncIterator
from typing import Final

import httpx2

from pilothouse.kubernetes.addresses import Addresses, resolve
from pilothouse.kubernetes.resolver import LookUp

_PORTS: Final = {"http": 80, "https": 443}
_MOST_CONNECTIONS: Final = 20
#: A connection is to an address, and was verified for one name: it is not kept for another name of that address.
_LIMITS: Final = httpx2.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=0)


class VettedTransport(httpx2.AsyncBaseTransport):
    """Send requests to vetted addresses; for ``httpx2.AsyncClient``, which follows no redirect by itself.

    Raises ClusterUnavailable for an address that the rules refuse, and httpx2.ReadError for an answer over the limit.
    """

    def __init__(self, addresses: Addresses, look_up: LookUp, *, tls: ssl.SSLContext, largest: int) -> None:
        """``largest``: bytes of an answer's body."""
        self._addresses = addresses
        self._look_up = look_up
        self._largest = largest
        self._inner = httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, limits=_LIMITS)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request and return its answer, whose body is still to be read."""
        host, port = request.url.host, request.url.port or _PORTS[request.url.scheme]
        vetted = await resolve(host, port=port, addresses=self._addresses, look_up=self._look_up)
        request.headers["accept-encoding"] = "identity"
        sent = httpx2.Request(
            request.method,
            request.url.copy_with(host=vetted[0]),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        answer = await self._inner.handle_async_request(sent)
        if answer.headers.get("content-encoding", "identity") != "identity":
            await answer.aclose()
            raise httpx2.ReadError("the answer is compressed, which was not asked for", request=request)
        assert isinstance(answer.stream, httpx2.AsyncByteStream)  # noqa: S101 - for mypy: it is the transport's
        return httpx2.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Bounded(answer.stream, self._largest, request),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    """A body that ends with an error where it exceeds the limit."""

    def __init__(self, body: httpx2.AsyncByteStream, largest: int, request: httpx2.Request) -> None:
        self._body = body
        self._largest = largest
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._body:
            size += len(piece)
            if size > self._largest:
                raise httpx2.ReadError(f"the answer exceeds {self._largest} bytes", request=self._request)
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()

"""The wire itself: requests that no HTTP library would send, and the form that every error must have."""

import http.client
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx2

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.servers import RunningServer

JSON: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


def exchange(
    server: RunningServer,
    method: str,
    target: str,
    *,
    headers: Iterable[tuple[str, str]] = JSON,
    body: bytes = b"",
    chunked: bool = False,
    signed: Iterable[str] = (),
    credentials: bool = True,
) -> httpx2.Response:
    """Send ``target`` and ``headers`` exactly as given; ``signed`` names headers that the signature covers too."""
    address = urlsplit(server.url)
    given = list(headers)
    covered = {name.lower() for name in signed}
    path, _, query = target.partition("?")
    request = SignedRequest(
        method=method,
        raw_path=path.encode(),
        query_string=query.encode(),
        headers=[
            (b"host", address.netloc.encode()),
            *((name.encode(), value.encode()) for name, value in given if name.lower() in covered),
        ],
        body_digest=body_digest(body),
        body_empty=not body,
    )
    if credentials:
        given += sign(
            request, access_key=server.access_key, secret_key=server.secret_key, now=datetime.now(UTC)
        ).items()
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in given:
            connection.putheader(name, value)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders(_pieces(body), encode_chunked=True)
        else:
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
        answer = connection.getresponse()
        return httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    finally:
        connection.close()


def assert_error(response: httpx2.Response, status: int, code: str, *words: str) -> str:
    """Return the answer is that error in the form that all the vendor's clients read; gives its message."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/json"
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])
    body = response.json()
    assert isinstance(body, dict)
    assert body["errorCode"] == body["error_code"] == code, body
    assert body["errorMessage"] == body["error_msg"]
    message: str = body["errorMessage"]
    for word in words:
        assert word in message, message
    assert "Traceback" not in message
    return message


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 8192):
        yield body[start : start + 8192]

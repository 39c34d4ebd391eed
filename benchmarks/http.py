"""The smallest client that can be measured with: keep-alive, signed, one request at a time on each connection."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.servers import RunningServer

#: The server closes a connection whose first head does not come in 10 s.
_IDLE_SECONDS = 8.0


@dataclass(frozen=True)
class Answer:
    """A status, a JSON body, and the seconds from the first byte sent to the last one read, and to the first one."""

    status: int
    body: Any
    seconds: float
    first_byte: float


class Connection:
    """One kept connection to the server."""

    def __init__(self, server: RunningServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._host = urlsplit(server.url).netloc
        self.used_at = time.monotonic()

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        parts = urlsplit(server.url)
        return cls(server, *await asyncio.open_connection(parts.hostname, parts.port))

    async def send(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        target, _, query = path.partition("?")
        request = SignedRequest(
            method=method,
            raw_path=target.encode(),
            query_string=query.encode(),
            headers=[(b"host", self._host.encode())],
            body_digest=body_digest(content),
            body_empty=not content,
        )
        server = self._server
        signed = sign(request, access_key=server.access_key, secret_key=server.secret_key, now=datetime.now(UTC))
        headers = (
            (headers or {})
            | signed
            | {
                "Host": self._host,
                "Content-Type": "application/json",
                "Content-Length": str(len(content)),
            }
        )
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        started = time.perf_counter()
        self._writer.write(head.encode() + b"\r\n" + content)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first_byte = time.perf_counter() - started
        fields = dict(line.lower().split(": ", 1) for line in answer.split("\r\n")[1:] if line)
        if fields.get("transfer-encoding") == "chunked":
            text = await self._read_chunks()
        else:
            text = await self._reader.readexactly(int(fields.get("content-length", "0")))
        seconds = time.perf_counter() - started
        return Answer(int(answer.split(" ", 2)[1]), json.loads(text or b"null"), seconds, first_byte)

    async def _read_chunks(self) -> bytes:
        pieces = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            pieces.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readexactly(2)
        return b"".join(pieces)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


class Connections:
    """As many connections as there are requests at the same time."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._idle: list[Connection] = []

    async def send(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Answer:
        connection = self._idle.pop() if self._idle else await Connection.open(self._server)
        if time.monotonic() - connection.used_at > _IDLE_SECONDS:
            await connection.close()
            connection = await Connection.open(self._server)
        answer = await connection.send(method, path, body, headers=headers)
        connection.used_at = time.monotonic()
        self._idle.append(connection)
        return answer


@asynccontextmanager
async def connections(server: RunningServer, *, warm: int = 4) -> AsyncIterator[Connections]:
    pool = Connections(server)
    pool._idle = [await Connection.open(server) for _ in range(warm)]  # noqa: SLF001  # our own class
    try:
        yield pool
    finally:
        await asyncio.gather(*(connection.close() for connection in pool._idle))  # noqa: SLF001  # our own class

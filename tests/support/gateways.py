"""The gateway's server in the test's own event loop, in front of any application."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from pilothouse.auth.certificates import CertificateFiles, ensure_certificate
from pilothouse.http.endpoints import Endpoint
from pilothouse.http.middleware import stack
from pilothouse.http.server import GatewayServer, TlsContext
from pilothouse.settings import Settings
from tests.support.servers import free_port


@dataclass(frozen=True)
class Ports:
    """Where it listens."""

    plain: int
    tls: int


def certificate(folder: Path) -> CertificateFiles:
    """Return a certificate for this machine, with its authority."""
    return ensure_certificate(folder, names=[], renew_days=30, clock=lambda: dt.datetime.now(dt.UTC))


@contextlib.asynccontextmanager
async def serving(application: ASGIApp, files: CertificateFiles) -> AsyncIterator[Ports]:
    """Yield a server that listens; it ends with the block."""

    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await application(scope, receive, send)
            return
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})

    ports = Ports(free_port(), free_port())
    listeners = [Endpoint("http", "127.0.0.1", ports.plain), Endpoint("https", "127.0.0.1", ports.tls)]
    options = stack.server_options(Settings())
    config = uvicorn.Config(whole, log_config=None, timeout_graceful_shutdown=5, **options)
    server = GatewayServer(config, listeners, tls=TlsContext(lambda: files))
    task = asyncio.create_task(server._serve())
    try:
        while not server.started or len(server.servers) < len(listeners):  # noqa: ASYNC110 (uvicorn has no event)
            await asyncio.sleep(0.01)
        yield ports
    finally:
        server.should_exit = True
        await task


async def answer(send: Send, body: bytes) -> None:
    """Send an answer in one piece."""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

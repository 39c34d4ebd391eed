"""Servers of our own that a cluster's address can lead to."""

import asyncio
import base64
import ipaddress
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.kubeconfig import sanitise

_HANDSHAKE_SECONDS = 5.0

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@cache
def certificate(name: str = "localhost", address: str = "127.0.0.1") -> tuple[bytes, bytes]:
    """Return a self-signed certificate for one name and one address, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer")])
    now = datetime.now(UTC)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(alternatives, critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@asynccontextmanager
async def peer(
    handler: Handler, folder: Path, *, tls: bool = True, cert: tuple[bytes, bytes] | None = None
) -> AsyncIterator[int]:
    """Yield a server on this machine; gives its port."""
    context = None
    if tls:
        file = folder / "peer.pem"
        file.write_bytes(b"".join(cert or certificate()))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
    running: set[asyncio.Task[None]] = set()
    closing: list[asyncio.StreamWriter] = []
    stopped = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if stopped.is_set():
            writer.transport.abort()  # its handshake has ended only now, and nobody would close it
            return
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            running.discard(task)
            writer.close()
            closing.append(writer)

    server = await asyncio.start_server(
        serve, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=_HANDSHAKE_SECONDS if tls else None
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        stopped.set()
        for listener in server.sockets:  # asyncio loses what it has accepted and has no transport yet when this closes
            asyncio.get_running_loop().remove_reader(listener.fileno())
        await asyncio.sleep(0.01)
        server.close()
        for task in [*running]:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for writer in closing:
            try:
                async with asyncio.timeout(1):
                    await writer.wait_closed()
            except (OSError, TimeoutError):
                writer.transport.abort()
        await asyncio.sleep(0)  # an aborted one is closed in the next turn
        until = time.monotonic() + _HANDSHAKE_SECONDS + 1
        while getattr(server, "_active_count", 0) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a handshake has no task yet


def kubeconfig(
    port: int, *, authority: bytes | None = None, host: str = "127.0.0.1", cluster: dict[str, str] | None = None
) -> str:
    """Return a kubeconfig, as it is after registration, for the server at that port."""
    data = base64.b64encode(authority or certificate()[0]).decode()
    document = {
        "contexts": [{"name": "peer", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": f"https://{host}:{port}", "certificate-authority-data": data} | (cluster or {}),
            }
        ],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
    }
    return sanitise(json.dumps(document), addresses=Addresses(allow_loopback=True)).text


async def read_request(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def saying(answer: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return handler


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

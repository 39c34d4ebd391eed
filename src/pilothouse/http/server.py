"""Listeners of the API: plain HTTP on loopback, TLS anywhere, one server process behind both.

Invariants: unencrypted traffic does not leave the machine unless a setting says so; both listeners lead to one
application with one lifespan, one set of connections and one shutdown.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
import uvicorn

from pilothouse.auth.certificates import CertificateFiles, ensure_certificate
from pilothouse.errors import InvalidCertificate, InvalidSettings, PilothouseError
from pilothouse.http.endpoints import Endpoint, cannot_listen, is_loopback
from pilothouse.http.handshake import Handshake
from pilothouse.http.protocol import GatewayProtocol
from pilothouse.settings import Settings

#: For TLS 1.2, as in Mozilla's "intermediate" list: forward secrecy and authenticated encryption; 1.3 has its own.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_LOOK_EVERY_TICKS: Final = 100  # uvicorn ticks ten times a second

log = structlog.get_logger(__name__)


def certificate_files(settings: Settings) -> CertificateFiles:
    """Return the configured files, or those of the local authority, created or renewed if due.

    Raises InvalidSettings or InvalidCertificate.
    """
    tls = settings.tls
    if tls.certificate and tls.key:
        return CertificateFiles(tls.certificate, tls.key)
    if tls.certificate or tls.key:
        raise InvalidSettings("set PILOTHOUSE_TLS__CERTIFICATE and PILOTHOUSE_TLS__KEY both, or neither")
    names = [name.strip() for name in tls.names.split(",") if name.strip()]
    also = []
    if settings.host in {"0.0.0.0", "::"}:  # noqa: S104 (compared with, not bound to)
        also = [socket.gethostname()]
    elif not is_loopback(settings.host):
        names.append(settings.host)
    return ensure_certificate(
        settings.data_dir / "tls", names=names, also=also, renew_days=tls.renew_days, clock=lambda: datetime.now(UTC)
    )


class TlsContext:
    """The TLS side of a listener; new connections get the newest certificate without a restart."""

    def __init__(self, find: Callable[[], CertificateFiles], *, ciphers: str | None = None) -> None:
        """``find`` returns the files, at every check too; raises InvalidCertificate if they do not load."""
        self._find = find
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            self.context.set_ciphers(ciphers or _CIPHERS)
        except ssl.SSLError as error:
            raise InvalidSettings(f"PILOTHOUSE_TLS__CIPHERS={ciphers} names no cipher known to OpenSSL") from error
        self.context.set_alpn_protocols(["http/1.1"])
        self._loaded = self._load()

    def refresh(self) -> None:
        """Reload changed files; keep the current ones while the new ones do not match."""
        try:
            if self._stamp(self._find()) != self._loaded:
                self._loaded = self._load()
                log.info("certificate_loaded")
        except PilothouseError as error:
            log.warning("certificate_not_loaded", reason=str(error))

    def _load(self) -> tuple[object, ...]:
        files = self._find()
        stamp = self._stamp(files)
        try:
            # Tried apart: a chain loaded before a key that does not fit would stay in the context that serves.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key, _no_passphrase)
            self.context.load_cert_chain(files.certificate, files.key, _no_passphrase)
        except (OSError, ValueError) as error:
            raise InvalidCertificate(
                f"TLS certificate {files.certificate} and key {files.key} cannot be loaded: {_reason(error)}"
            ) from error
        return stamp

    @staticmethod
    def _stamp(files: CertificateFiles) -> tuple[object, ...]:
        return tuple(_file_stamp(path) for path in (files.certificate, files.key))


class GatewayServer(uvicorn.Server):
    """One uvicorn server behind several listeners: the same application, lifespan, connections and shutdown."""

    def __init__(
        self,
        config: uvicorn.Config,
        listeners: Sequence[Endpoint],
        *,
        tls: TlsContext | None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """``tls`` is required if one of the listeners is https; ``on_stop`` ends the requests that wait."""
        super().__init__(config)
        self._on_stop = on_stop
        self._listeners = listeners
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind, start the application, and only then listen; raise InvalidSettings for an address in use."""
        bound = [await self._bind(listener) for listener in self._listeners]
        await super().startup(sockets=sockets or [])
        for server in bound:
            await server.start_serving()
        self.servers.extend(bound)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in progress, and stop."""
        self._on_stop()
        await super().shutdown(sockets=sockets)

    async def on_tick(self, counter: int) -> bool:
        """Check for a new certificate now and then; return True when it is time to stop."""
        if self._tls is not None and counter % _LOOK_EVERY_TICKS == _LOOK_EVERY_TICKS - 1:
            self._tls.refresh()
        return await super().on_tick(counter)

    async def _bind(self, listener: Endpoint) -> asyncio.Server:
        tls = self._tls if listener.scheme == "https" else None
        try:
            return await asyncio.get_running_loop().create_server(
                (lambda: self._handshake(tls.context)) if tls else self._protocol,
                listener.host,
                listener.port,
                backlog=self.config.backlog,
                start_serving=False,
            )
        except OSError as error:
            raise cannot_listen(listener, error) from error

    def _handshake(self, context: ssl.SSLContext) -> Handshake:
        return Handshake(context, self._protocol, self.server_state.connections)

    def _protocol(self) -> GatewayProtocol:
        return GatewayProtocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _no_passphrase() -> str:
    """Return no passphrase; without this callback OpenSSL would ask on the terminal."""
    raise InvalidCertificate("the key of the TLS certificate has a passphrase; use one without")


def _file_stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidCertificate(f"cannot read the TLS file {path}: {error.strerror}") from error
    return status.st_ino, status.st_mtime_ns, status.st_size


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "not PEM").lower().replace("_", " ")
    return str(error.strerror if isinstance(error, OSError) else error)

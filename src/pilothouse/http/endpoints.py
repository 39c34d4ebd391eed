"""The listening addresses from the settings. Few imports, because the supervisor uses it and must stay small."""

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pilothouse.errors import InvalidSettings
from pilothouse.settings import Settings

HEALTH_PATH: Final = "/api/v1/health"
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class Endpoint:
    """One listening address."""

    scheme: str
    host: str
    port: int

    @property
    def local_host(self) -> str:
        """The host as a client on this machine names it."""
        return _LOOPBACK if self.host == "0.0.0.0" else "::1" if self.host == "::" else self.host  # noqa: S104 (read)

    @property
    def url(self) -> str:
        """The URL for clients on this machine."""
        host = self.local_host
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


def endpoints(settings: Settings) -> list[Endpoint]:
    """Return the configured listeners: plain HTTP first, if there is any; at least one.

    Plain HTTP stays on loopback if ``host`` is another address, unless ``tls.plain_http`` allows it there. Raises
    InvalidSettings if that leaves nothing where the settings want a listener.
    """
    tls = settings.tls
    outside = not is_loopback(settings.host)
    if not settings.port and not tls.port:
        raise InvalidSettings("PILOTHOUSE_PORT and PILOTHOUSE_TLS__PORT are both 0, so nothing would listen; set one")
    if outside and not tls.port and not tls.plain_http:
        raise InvalidSettings(
            f"PILOTHOUSE_HOST={settings.host} is not a loopback address and PILOTHOUSE_TLS__PORT=0 turns TLS off, so "
            "secrets would cross the network in the clear. Set PILOTHOUSE_TLS__PORT, or set "
            "PILOTHOUSE_TLS__PLAIN_HTTP=true if something in front encrypts"
        )
    found = []
    if settings.port:
        host = settings.host if tls.plain_http or not outside else _LOOPBACK
        found.append(Endpoint("http", host, settings.port))
    if tls.port:
        found.append(Endpoint("https", settings.host, tls.port))
    return found


def cannot_listen(endpoint: Endpoint, error: OSError) -> InvalidSettings:
    """Return the error for an address that cannot be bound: it is in use, or not one of this machine."""
    variable = "PILOTHOUSE_TLS__PORT" if endpoint.scheme == "https" else "PILOTHOUSE_PORT"
    # asyncio's own text repeats the address; a name that is not found has a negative number.
    cause = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
    return InvalidSettings(
        f"cannot listen on {endpoint.url}: {cause}. Is another program listening there, or this Pilothouse already? "
        f"End it, or set {variable} or PILOTHOUSE_HOST"
    )


async def refuse_taken(listening: Sequence[Endpoint], *, patience_seconds: float) -> None:
    """Return if every address can be bound; raise InvalidSettings for one that stays in use for so long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    for endpoint in listening:
        while True:
            try:
                server = await loop.create_server(asyncio.Protocol, endpoint.host, endpoint.port, start_serving=False)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or loop.time() >= deadline:
                    raise cannot_listen(endpoint, error) from error
                await asyncio.sleep(0.1)
            else:
                server.close()
                break


def is_loopback(host: str) -> bool:
    """Return True for a loopback address, or a name that means only those."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidSettings(f"PILOTHOUSE_HOST={host} is not an address of this machine: {error.strerror}") from error
    return all(ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_loopback for entry in found)

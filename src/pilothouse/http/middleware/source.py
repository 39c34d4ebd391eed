"""The client's address, for counting failures and for the audit log.

It is the peer's address, unless the settings trust the peer as a proxy: then it is the last address in X-Forwarded-For
that is not such a proxy. Earlier addresses there are under the client's control.
"""

import ipaddress
from collections.abc import Collection, Sequence
from typing import Final

from starlette.types import Scope

from pilothouse.settings import Network

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Further hops are not looked at: a header line may be 32 KiB.
_MOST_HOPS: Final = 16


def source_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """Return the address in its canonical form; empty if the server names no peer."""
    client = scope.get("client")
    address = _parse(str(client[0])) if client else None
    if address is None:
        return ""
    if trusted and _is_trusted(address, trusted):
        for hop in _hops(scope):
            before = _parse(hop)
            if before is None:  # no address to name
                break
            address = before
            if not _is_trusted(address, trusted):
                break
    return str(address)


def is_trusted_peer(scope: Scope, trusted: Sequence[Network]) -> bool:
    """Return True if the request comes from a proxy of the settings."""
    client = scope.get("client")
    address = _parse(str(client[0])) if client else None
    return address is not None and _is_trusted(address, trusted)


def is_trusted(address: str, trusted: Collection[Network]) -> bool:
    """Return True if an address in its canonical form is that of a proxy of the settings."""
    return bool(trusted) and _is_trusted(ipaddress.ip_address(address), trusted)


def _hops(scope: Scope) -> list[str]:
    """Return what the proxies wrote, the nearest first."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return [hop.strip() for hop in reversed(",".join(lines).rsplit(",", _MOST_HOPS)[-_MOST_HOPS:])]


def _parse(text: str) -> _Address | None:
    """Parse an address, with or without port and brackets; an IPv4-mapped IPv6 address becomes IPv4."""
    bare = text.partition("]")[0].removeprefix("[") if text.startswith("[") else text
    if bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(address: _Address, trusted: Collection[Network]) -> bool:
    return any(address in network for network in trusted)

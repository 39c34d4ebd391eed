"""Which network addresses a cluster's API server may have.

The address comes from a stranger and the request is made from here, where more may be reached than from there. So the
machine itself and the metadata services of clouds, which hand out credentials to whoever asks, are out. Private
networks are where clusters live and stay in. A name is judged by what it resolves to, each time it is resolved.
"""

import asyncio
import ipaddress
import json
import socket
from urllib.parse import urlsplit

from pilothouse.errors import ClusterUnavailable
from pilothouse.settings import ClusterSettings

_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
#: Metadata services outside the link-local range: AWS (IPv6), Alibaba, Azure, Oracle.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")))


def refusal(address: str, *, allow_loopback: bool) -> str | None:
    """Why the IP address may not be an API server's, or None if it may; ValueError if it is no IP address."""
    ip = _meant(ipaddress.ip_address(address.split("%", maxsplit=1)[0]))
    if ip.is_loopback:
        if allow_loopback:
            return None
        return f"{address} is this machine; to allow that, set PILOTHOUSE_CLUSTER__ALLOW_LOOPBACK=true"
    if ip.is_link_local or ip in _METADATA:
        return f"{address} is link-local or a metadata service, not a Kubernetes API server"
    odd = ip.is_reserved or ip in _THIS_NETWORK if isinstance(ip, ipaddress.IPv4Address) else False
    if ip.is_multicast or ip.is_unspecified or odd:
        return f"{address} is no address of a server"
    return None


async def resolve(host: str, *, allow_loopback: bool) -> list[str]:
    """The host's IP addresses, all of them allowed; ClusterUnavailable if one is not or none is found."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ClusterUnavailable(f"the name {host} cannot be resolved") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        # One bad address refuses all: a name that mixes them is made to slip through.
        if why := refusal(address, allow_loopback=allow_loopback):
            raise ClusterUnavailable(f"{host} is not asked: {why}")
    return addresses


async def resolve_server(kubeconfig: str, settings: ClusterSettings) -> list[str]:
    """The addresses of the server of a kubeconfig from ``sanitise``, within ``answer_seconds``; errors as ``resolve``.

    For whoever connects by other means than ours: it must use these addresses and not resolve the name again.
    """
    server = json.loads(kubeconfig)["clusters"][0]["cluster"]["server"]
    try:
        async with asyncio.timeout(settings.answer_seconds):
            return await resolve(urlsplit(server).hostname or "", allow_loopback=settings.allow_loopback)
    except TimeoutError as error:
        message = f"the name of {server} was not resolved within {settings.answer_seconds:g} s"
        raise ClusterUnavailable(message) from error


def _meant(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address behind the IPv6 forms that carry one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    if carried is None and (ip in _TRANSLATED or (ip in _COMPATIBLE and int(ip) > 1)):
        carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return carried or ip

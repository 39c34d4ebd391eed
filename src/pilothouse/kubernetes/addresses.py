"""Rules for the network addresses of clusters' API servers, and of chart sources.

Untrusted users choose the address, and the connection is made from here, where more may be reachable than from there.
So this machine, at any of its addresses, and the metadata services of clouds, which hand out credentials to any caller,
are refused unless they are listed one by one. Private networks are where clusters are and stay allowed, unless a list
restricts them. A name is vetted by its addresses, each time it is resolved.
"""

import ipaddress
import json
import re
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pilothouse.errors import ClusterUnavailable, InvalidSettings
from pilothouse.kubernetes.resolver import LookUp
from pilothouse.settings import ClusterSettings, SourceSettings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ALLOWED: Final = "PILOTHOUSE_CLUSTER__ALLOWED"
_HTTPS: Final = 443
_THIS_NETWORK: Final = ipaddress.IPv4Network("0.0.0.0/8")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
#: RFC 6052: the well-known prefix has the IPv4 address at its end. RFC 8215: the local one may have it elsewhere too.
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
_TRANSLATED_LOCALLY: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_LINK_LOCAL: Final = (ipaddress.IPv4Network("169.254.0.0/16"), ipaddress.IPv6Network("fe80::/10"))
#: Metadata services outside the link-local range: AWS (IPv6), Google (IPv6), Alibaba, Azure, Oracle.
_METADATA: Final = tuple(
    map(ipaddress.ip_network, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)
_LOOPBACK: Final = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))
#: Addresses that no machine has (RFC 5737, RFC 3849): where one can be bound, binding proves nothing.
_NOBODYS: Final = {4: "203.0.113.213", 6: "2001:db8::bad:213"}
_ENTRY: Final = re.compile(r"\[?(?P<host>[^\[\]]+?)\]?(?::(?P<port>[0-9]{1,5}))?")
_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?")


@dataclass(frozen=True)
class Entry:
    """One entry of the list: a network, or a name (``*.`` matches everything below it); ``port`` None: every port."""

    network: Network | None
    name: str
    port: int | None


@dataclass(frozen=True)
class Addresses:
    """The rules of this installation; without ``entries``, every address that is not special is allowed.

    ``setting`` is the name of the list, for those who read a refusal, and ``servers`` whom it lists.
    """

    allow_loopback: bool
    entries: tuple[Entry, ...] = ()
    setting: str = ALLOWED
    servers: str = "Kubernetes API server"

    def refusal(self, address: str, *, port: int = _HTTPS, name: str = "") -> str | None:
        """Return why the IP address may not be the server's, None if it may; raise ValueError if it is no address.

        ``name`` is the name that resolved to it.
        """
        ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        for meant in _meanings(ip):
            why = self._refusal(meant, address, port)
            if why:
                return why
        if self.entries and not (self.allow_loopback and is_own(_meanings(ip)[0])) and not self._lists(ip, port, name):
            return f"{address} port {port} is not among the addresses that {self.setting} lists"
        return None

    def names(self, address: str, *, port: int, name: str) -> bool:
        """Return whether whoever runs this server has singled out the address: by itself, its name, or as loopback.

        A network, or names below one, is a list of what may be there, and not of what is.
        """
        ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        if self.allow_loopback and ip.is_loopback:
            return True
        return any(
            (entry.port is None or entry.port == port)
            and (
                entry.network.num_addresses == 1 and _contains(entry.network, ip)
                if entry.network is not None
                else entry.name == name
            )
            for entry in self.entries
        )

    def _refusal(self, ip: Address, address: str, port: int) -> str | None:
        """Return a reason if the address is special and not itself listed."""
        odd = ip.is_reserved or ip in _THIS_NETWORK if isinstance(ip, ipaddress.IPv4Address) else False
        if ip.is_multicast or ip.is_unspecified or odd:
            return f"{address} is not the address of a server"
        if is_own(ip):
            own = ipaddress.ip_network(ip)
            if self.allow_loopback or self._lists_within(ip, port, _within(ip, _LOOPBACK) or own):
                return None
            return (
                f"{address} is this machine; to allow that, list it in {self.setting} or set "
                f"{self.setting.removesuffix('ALLOWED')}ALLOW_LOOPBACK=true"
            )
        network = _within(ip, (*_LINK_LOCAL, *_METADATA))
        if network is not None:
            if self._lists_within(ip, port, network):
                return None
            return f"{address} is link-local or a metadata service, not a {self.servers}"
        return None

    def _lists(self, ip: Address, port: int, name: str) -> bool:
        return any(
            (entry.port is None or entry.port == port)
            and (_contains(entry.network, ip) if entry.network is not None else _fits(entry.name, name))
            for entry in self.entries
        )

    def _lists_within(self, ip: Address, port: int, special: Network) -> bool:
        """Return True if an entry no wider than the special network lists the address; 0.0.0.0/0 does not count."""
        return any(
            (entry.port is None or entry.port == port)
            and entry.network is not None
            and _contains(entry.network, ip)
            and entry.network.prefixlen >= special.prefixlen
            for entry in self.entries
        )


def addresses_of(settings: ClusterSettings | SourceSettings) -> Addresses:
    """Return the rules from the settings; raise InvalidSettings for an invalid list."""
    setting, servers = ALLOWED, "Kubernetes API server"
    if isinstance(settings, SourceSettings):
        setting, servers = "PILOTHOUSE_SOURCES__ALLOWED", "registry or repository"
    entries = read_entries(settings.allowed, setting)
    return Addresses(allow_loopback=settings.allow_loopback, entries=entries, setting=setting, servers=servers)


def read_entries(listed: str, setting: str) -> tuple[Entry, ...]:
    """Return the entries of a comma-separated list; raise InvalidSettings, which names the setting."""
    return tuple(_entry(text.strip(), setting) for text in listed.split(",") if text.strip())


async def resolve(host: str, *, port: int, addresses: Addresses, look_up: LookUp) -> list[str]:
    """Return the host's IP addresses, all allowed; raise ClusterUnavailable if one is refused or there is none."""
    try:
        resolved = [str(ipaddress.ip_address(host))]
    except ValueError:
        resolved = await look_up(host)
    for address in resolved:
        # One bad address refuses all: a name that mixes them is made to slip through.
        if why := addresses.refusal(address, port=port, name=host.lower().rstrip(".")):
            raise ClusterUnavailable(f"{host} is refused: {why}")
    return resolved


async def resolve_server(kubeconfig: str, settings: ClusterSettings, *, look_up: LookUp) -> list[tuple[str, int]]:
    """Return the addresses, with the port, of the server of a kubeconfig from ``sanitise``, like ``resolve``.

    For callers with their own connections: they must use these addresses and not resolve the name again.
    """
    url = urlsplit(json.loads(kubeconfig)["clusters"][0]["cluster"]["server"])
    port = url.port or _HTTPS
    allowed = addresses_of(settings)
    return [
        (address, port) for address in await resolve(url.hostname or "", port=port, addresses=allowed, look_up=look_up)
    ]


def is_own(ip: Address) -> bool:
    """Return True if the address leads to this machine: loopback, or one of its current interfaces.

    Only the machine's own addresses can be bound, unless the kernel lets programs bind any (``ip_nonlocal_bind``): then
    the kernel is asked which source address it would use.
    """
    if ip.is_loopback:
        return True
    if ip.is_multicast or ip.is_unspecified:
        return False
    if not _can_bind(str(ip), ip.version):
        return False
    return not _can_bind(_NOBODYS[ip.version], ip.version) or _sends_from(str(ip), ip.version)


def is_public(address: str) -> bool:
    """Return True if anybody on the internet may reach the IP address, so that nothing of a private network is told."""
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    return all(meant.is_global and not meant.is_multicast and not is_own(meant) for meant in _meanings(ip))


def _can_bind(address: str, version: int) -> bool:
    try:
        with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:  # noqa: PLR2004 - IP has two
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _sends_from(address: str, version: int) -> bool:
    try:
        with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:  # noqa: PLR2004 - IP has two
            probe.connect((address, 9))  # no packet is sent
            return bool(ipaddress.ip_address(probe.getsockname()[0]) == ipaddress.ip_address(address))
    except OSError:
        return False


def _meanings(ip: Address) -> list[Address]:
    """Return the address, or the IPv4 addresses inside IPv6 forms that carry one; the first is the certain one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    last = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if carried is None and (ip in _TRANSLATED or (ip in _COMPATIBLE and int(ip) > 1)):
        carried = last
    if ip in _TRANSLATED_LOCALLY:
        # Behind /48, /56 and /64 its bytes go around byte 8; nothing tells which length an installation has chosen.
        packed = ip.packed
        spread = (packed[6:8] + packed[9:11], packed[7:8] + packed[9:12], packed[9:13])
        others = [address for address in map(ipaddress.IPv4Address, spread) if address not in _THIS_NETWORK]
        return [last, *(address for address in others if not (address.is_multicast or address.is_reserved))]
    return [carried or ip]


def _entry(text: str, setting: str) -> Entry:
    problem = InvalidSettings(
        f"{setting}: {text!r} is not a network, address or name, optionally with a port, such as 10.0.0.0/8:6443, "
        "[fd00::/8]:6443 or *.k8s.example.com"
    )
    host, port = text, None
    try:
        return Entry(ipaddress.ip_network(host, strict=False), "", None)
    except ValueError:
        found = _ENTRY.fullmatch(text)
    if found is None:
        raise problem
    host = found["host"].lower().rstrip(".")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:  # noqa: PLR2004 - ports have 16 bits
        raise problem
    try:
        return Entry(ipaddress.ip_network(host, strict=False), "", port)
    except ValueError:
        if not _NAME.fullmatch(host) or ":" in host or "/" in host:
            raise problem from None
        return Entry(None, host, port)


def _within(ip: Address, networks: tuple[Network, ...]) -> Network | None:
    return next((network for network in networks if _contains(network, ip)), None)


def _contains(network: Network, ip: Address) -> bool:
    return network.version == ip.version and ip in network


def _fits(pattern: str, name: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else bool(name) and name == pattern

"""How many connections there may be, and which one gives way.

Every connection holds a file descriptor, and a process that has none left accepts nobody, opens no file and reaches no
cluster. So connections stay below the limit of open files with room to spare. When all places are taken, the connection
that has been without a request for the longest gives way to the newcomer: silent ones do not keep others out.
"""

import ipaddress
from collections import Counter
from collections.abc import Collection
from typing import Final, Protocol

from pilothouse.auth.attempts import network_of
from pilothouse.open_files import RESERVED
from pilothouse.settings import HttpSettings, Network

_LEAST: Final = 10


class Connection(Protocol):
    """One connection; ``idle_since`` is None while a request is under way, else the loop's time."""

    address: str
    idle_since: float | None

    def give_way(self) -> None:
        """Close at once."""


def most_connections(settings: HttpSettings, *, open_files: int) -> int:
    """Return how many connections there may be with so many files; RLIM_INFINITY is a large number or negative."""
    if open_files < 0:
        return settings.connections
    return max(_LEAST, min(settings.connections, open_files - RESERVED, open_files // 2))


class ConnectionLimits:
    """Counts the connections of a process, in all and per network."""

    def __init__(self, *, most: int, most_per_address: int, trusted: Collection[Network] = ()) -> None:
        """``trusted`` are proxies, whose connections carry the requests of many."""
        self._most = most
        self._most_per_address = most_per_address
        self._trusted = trusted
        self._open: set[Connection] = set()
        self._per_network: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many connections are counted now."""
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection and return True, or return False for one that has to be closed."""
        network = self._network(connection.address)
        if network and self._per_network[network] >= self._most_per_address:
            return False
        if len(self._open) >= self._most and not self._make_room():
            return False
        self._open.add(connection)
        if network:
            self._per_network[network] += 1
        return True

    def release(self, connection: Connection) -> None:
        """Forget a connection that is closed, or was never admitted."""
        if connection not in self._open:
            return
        self._open.remove(connection)
        network = self._network(connection.address)
        if network:
            self._per_network[network] -= 1
            if not self._per_network[network]:
                del self._per_network[network]

    def _make_room(self) -> bool:
        idle = [(one.idle_since, one) for one in self._open if one.idle_since is not None]
        if not idle:
            return False
        _, longest = min(idle, key=lambda pair: pair[0])
        self.release(longest)
        longest.give_way()
        return True

    def _network(self, address: str) -> str:
        """Return what the limit per address counts by; empty for a trusted proxy and for no address."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return ""
        if any(parsed in network for network in self._trusted):
            return ""
        return network_of(address)

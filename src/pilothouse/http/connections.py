"""Limits of connections, and which one is closed when a limit is reached.

Every connection holds a file descriptor, and a process that has none left accepts no connection, opens no file and
reaches no cluster. So connections stay below the limit of open files with room to spare. At the limit, the connection
that has waited longest for its peer is closed in favour of the new one: for a request, for an unauthenticated body, or
for its answer to be read. Those that have carried a request of an authenticated caller are closed only if no others are
left, so that silent or non-reading unauthenticated clients keep nobody out. The same applies to the memory of heads,
bodies and answers while their peer is waited for.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

from pilothouse.auth.attempts import network_of
from pilothouse.open_files import RESERVED
from pilothouse.settings import HttpSettings, Network

_LEAST: Final = 10
#: What a connection may hold without being looked at when memory runs short.
_LIGHT_BYTES: Final = 16 * 1024
_STATE: Final = "request_observer"


class Connection(Protocol):
    """One connection."""

    address: str

    def give_way(self) -> None:
        """Close at once."""


def most_connections(settings: HttpSettings, *, open_files: int) -> int:
    """Return the connection limit for that many open files; RLIM_INFINITY is a large number or negative."""
    if open_files < 0:
        return settings.connections
    return max(_LEAST, min(settings.connections, open_files - RESERVED, open_files // 2))


class RequestObserver:
    """Receives what layers behind the protocol notice of a request in progress; this one ignores it."""

    def prove(self) -> None:
        """Report that the caller was authenticated before its body has arrived."""

    def hold(self, count: int) -> None:
        """Report how many bytes of the body are in memory now."""


def remember_observer(scope: Mapping[str, Any], observer: RequestObserver) -> None:
    """Store the observer in the scope, for the layers behind."""
    scope["state"][_STATE] = observer


def observer_of(scope: Mapping[str, Any]) -> RequestObserver:
    """Return the observer of this request; one that ignores everything if there is none."""
    found = scope["state"].get(_STATE)
    return found if isinstance(found, RequestObserver) else RequestObserver()


class _Queue:
    """Connections that may be closed: unauthenticated ones first, then by waiting time."""

    def __init__(self) -> None:
        self._strangers: OrderedDict[Connection, None] = OrderedDict()
        self._known: OrderedDict[Connection, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._strangers or self._known)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._strangers or connection in self._known

    def add(self, connection: Connection, *, known: bool) -> None:
        self.remove(connection)
        (self._known if known else self._strangers)[connection] = None

    def remove(self, connection: Connection) -> None:
        self._strangers.pop(connection, None)
        self._known.pop(connection, None)

    def first(self) -> Connection:
        return next(iter(self._strangers or self._known))

    def first_of(self, some: Collection[Connection]) -> Connection | None:
        """Return the first of these connections to be closed; None if none of them is here."""
        strangers = (connection for connection in some if connection in self._strangers)
        known = (connection for connection in some if connection in self._known)
        return next(strangers, None) or next(known, None)


class ConnectionLimits:
    """Count the connections of a process, in total and per network; constant time."""

    def __init__(
        self,
        *,
        most: int,
        most_per_address: int,
        most_bytes: int = 64 * 1024 * 1024,
        trusted: Collection[Network] = (),
    ) -> None:
        """``trusted`` are proxies, whose connections carry the requests of many clients."""
        self._most = most
        self._most_bytes = most_bytes
        self._most_per_address = most_per_address
        self._trusted = trusted
        self._networks: dict[Connection, str] = {}
        self._per_network: Counter[str] = Counter()
        self._waiting = _Queue()
        self._waiting_of: dict[str, _Queue] = {}
        #: What those hold that hold much, the one that has done so for the longest first.
        self._bytes: dict[Connection, int] = {}
        self._all_bytes = 0

    @property
    def open(self) -> int:
        """The number of connections that are counted now."""
        return len(self._networks)

    def admit(self, connection: Connection) -> bool:
        """Count a new, waiting connection and return True; return False if it has to be closed."""
        network = self._network(connection.address)
        if (
            network
            and self._per_network[network] >= self._most_per_address
            and not self._make_room(self._waiting_of.get(network))
        ):
            return False
        if len(self._networks) >= self._most and not self._make_room(self._waiting):
            return False
        self._networks[connection] = network
        self._per_network[network] += 1
        self.waits(connection)
        return True

    def waits(self, connection: Connection, *, known: bool = False) -> None:
        """Mark the connection as waiting for its peer, last in order among those that are ``known``, or not."""
        network = self._networks.get(connection)
        if network is None:
            return
        for queue in (self._waiting, self._waiting_of.setdefault(network, _Queue())):
            queue.add(connection, known=known)

    def works(self, connection: Connection) -> None:
        """Protect the connection: its peer waits for us."""
        network = self._networks.get(connection)
        if network is None or connection not in self._waiting:
            return
        self._waiting.remove(connection)
        self._waiting_of[network].remove(connection)
        if not self._waiting_of[network]:
            del self._waiting_of[network]

    def weighs(self, connection: Connection, count: int) -> None:
        """Record the bytes held for the connection; if the total is too much, waiting connections are closed."""
        if connection not in self._networks:
            return
        self._all_bytes -= self._bytes.get(connection, 0)
        if count < _LIGHT_BYTES:
            self._bytes.pop(connection, None)
            return
        self._bytes[connection] = count
        self._all_bytes += count
        while self._all_bytes > self._most_bytes:
            heavy = self._waiting.first_of(self._bytes)
            if heavy is None:
                return
            self._end(heavy)

    def release(self, connection: Connection) -> None:
        """Remove a connection that is closed, or was never admitted."""
        self.works(connection)
        self._all_bytes -= self._bytes.pop(connection, 0)
        network = self._networks.pop(connection, None)
        if network is None:
            return
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]

    def _make_room(self, queue: _Queue | None) -> bool:
        if not queue:
            return False
        self._end(queue.first())
        return True

    def _end(self, connection: Connection) -> None:
        self.release(connection)
        connection.give_way()

    def _network(self, address: str) -> str:
        """Return the key of the limit per address; empty for a trusted proxy and for no address."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return ""
        if any(parsed in network for network in self._trusted):
            return ""
        return network_of(address)

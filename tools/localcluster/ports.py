"""The loopback ports of one cluster: chosen once, remembered, chosen again only when another program has taken one."""

import json
import random
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.localcluster.errors import StartError
from tools.localcluster.folders import write_private

HOST = "127.0.0.1"
RANGE = range(20000, 32000)
"""Below the ports that Linux hands to outgoing connections, so that none of those takes ours while it is down."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """One port for each listener of the cluster."""

    apiserver: int
    etcd: int
    etcd_peers: int
    kwok: int

    @property
    def server(self) -> str:
        """The API server's address as clients write it."""
        return f"https://{HOST}:{self.apiserver}"

    def all_free(self) -> bool:
        """Whether nobody listens on any of them."""
        return all(free(port) for port in asdict(self).values())


def remembered(path: Path) -> Ports | None:
    """Return the ports noted in `path`; None without a file that can be read."""
    try:
        return Ports(**{key: int(value) for key, value in json.loads(path.read_bytes()).items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def choose(path: Path) -> Ports:
    """Four free ports, noted in `path`."""
    found: list[int] = []
    # Random and not the first free ones: two clusters that start at once then hardly ever meet.
    for port in random.SystemRandom().sample(RANGE, k=200):
        if free(port):
            found.append(port)
        if len(found) == 4:  # noqa: PLR2004 -- one for each listener
            break
    else:
        raise StartError(f"too few free ports between {RANGE.start} and {RANGE.stop}; stop what listens there")
    ports = Ports(apiserver=found[0], etcd=found[1], etcd_peers=found[2], kwok=found[3])
    write_private(path, json.dumps(asdict(ports)).encode())
    return ports


def free(port: int) -> bool:
    """Whether nobody listens on this port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

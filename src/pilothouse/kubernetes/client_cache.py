"""Cache of cluster clients: connections and discovery last as long as a cluster's credentials."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256

from pilothouse.kubernetes.addresses import addresses_of
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.resolver import Resolver
from pilothouse.kubernetes.transport import new_room
from pilothouse.settings import ClusterSettings

_KEPT_CLIENTS = 64


class ClusterClients:
    """The clients of one process: one per cluster while its credentials are unchanged, to reuse connections."""

    def __init__(self, settings: ClusterSettings) -> None:
        addresses_of(settings)  # a list that cannot be read is found out at the start
        self._settings = settings
        self._room = new_room(settings)
        self.resolver = Resolver(settings)
        self._clients: OrderedDict[str, tuple[bytes, ClusterClient]] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def try_out(self, kubeconfig: str, *, project: str = "") -> AsyncIterator[ClusterClient]:
        """Yield a temporary client for unverified credentials; InvalidKubeconfig as ``get``."""
        client = ClusterClient(
            kubeconfig, self._settings, room=self._room, look_up=self.resolver.of(project), known=False
        )
        try:
            yield client
        finally:
            await client.close()

    def get(
        self, cluster_id: str, kubeconfig: str, *, project: str = "", namespaces: Sequence[str] = ()
    ) -> ClusterClient:
        """Return the client for this cluster with exactly these credentials; InvalidKubeconfig if TLS rejects them.

        ``namespaces``: see ``ClusterClient``. Name lookups count against the share of ``project``. A client that is
        replaced or evicted keeps working for its current users.
        """
        digest = sha256("\n".join((kubeconfig, *namespaces)).encode()).digest()
        cached = self._clients.get(cluster_id)
        if cached is not None and cached[0] == digest:
            self._clients.move_to_end(cluster_id)
            return cached[1]
        client = ClusterClient(
            kubeconfig, self._settings, room=self._room, look_up=self.resolver.of(project), namespaces=namespaces
        )
        self._clients[cluster_id] = (digest, client)
        self._clients.move_to_end(cluster_id)
        if cached is not None:
            self._retire(cached[1])
        while len(self._clients) > _KEPT_CLIENTS:
            self._retire(self._clients.popitem(last=False)[1][1])
        return client

    async def close(self) -> None:
        """Close every client."""
        clients, self._clients = [client for _, client in self._clients.values()], OrderedDict()
        await asyncio.gather(*(client.close() for client in clients), *self._closing)

    def _retire(self, client: ClusterClient) -> None:
        task = client.retire()
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

"""Names that are never resolved cost their own project's clusters, and no other's."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import ClusterUnavailable
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.kubernetes.resolver import Resolver
from pilothouse.services.clusters import Cluster, Clusters
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.settings import ClusterSettings
from pilothouse.store.database import Database
from tests.support.fake_api_servers import kubeconfig
from tests.support.hostile_clusters import HostileCluster, hostile_cluster
from tests.support.tenants import add_project

GOOD = "api.good.test"
LIMITS: dict[str, Any] = {"allow_loopback": True, "answer_seconds": 4, "lookup_seconds": 1}


class NameServers:
    """Stands for the system's resolver: names below ``dead.test`` are answered when the test is over."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.dead: set[str] = set()
        self.over = threading.Event()

    def getaddrinfo(self, host: str, *_: object, **__: object) -> list[Any]:
        self.asked.append(host)
        if host.endswith(".dead.test") or host in self.dead:
            self.over.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    made = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.over.set()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[HostileCluster]:
    with hostile_cluster(tmp_path) as made:
        yield made


async def test_names_that_are_not_resolved_keep_no_other_project_from_its_cluster(
    database: Database, tmp_path: Path, cluster: HostileCluster, names: NameServers
):
    keys = MasterKeys.load_or_create(tmp_path / "master.key")
    settings = ClusterSettings(**LIMITS)
    clients = ClusterClients(settings)
    clusters = Clusters(database, keys, clients, settings)
    attacker, other = [(await add_project(database, keys))[0] for _ in range(2)]

    async def register(caller: Caller, host: str) -> Cluster:
        text = kubeconfig(cluster.port, host=host, cluster={"tls-server-name": "localhost"})
        return await clusters.register(caller, name="mine", kubeconfig=text, context=None, request_id="r")

    attacks = [asyncio.create_task(register(attacker, f"h{n}.dead.test")) for n in range(20)]
    try:
        await asyncio.sleep(0.3)
        began = time.monotonic()
        made = await register(other, GOOD)
        assert time.monotonic() - began < LIMITS["answer_seconds"]
        assert made.server == f"https://{GOOD}:{cluster.port}"
        assert len([name for name in names.asked if name.endswith("dead.test")]) == 4
        # Each of them ends long before the name server's time is over.
        failures = await asyncio.wait_for(asyncio.gather(*attacks, return_exceptions=True), 10)
        assert all(isinstance(one, ClusterUnavailable) for one in failures)
    finally:
        names.over.set()
        await asyncio.gather(*attacks, return_exceptions=True)
        await clients.close()


async def test_last_addresses_serve_while_the_project_has_no_place_free(names: NameServers):
    resolver = Resolver(ClusterSettings(**LIMITS))
    assert await resolver.find(GOOD, project="one") == ["127.0.0.1"]
    hung = [asyncio.create_task(resolver.find(f"h{n}.dead.test", project="one")) for n in range(8)]
    await asyncio.sleep(0.1)
    assert await resolver.find(GOOD, project="one") == ["127.0.0.1"]
    assert names.asked.count(GOOD) == 1
    with pytest.raises(ClusterUnavailable, match=r"never\.met\.test was not resolved within 1 s"):
        await resolver.find("never.met.test", project="one")
    assert await resolver.find("never.met.test", project="two") == ["127.0.0.1"]
    await asyncio.gather(*hung, return_exceptions=True)


async def test_last_addresses_serve_for_a_bounded_time(names: NameServers):
    resolver = Resolver(ClusterSettings(**LIMITS, known_addresses_seconds=1.5))
    await resolver.find(GOOD, project="one")
    names.dead.add(GOOD)
    assert await resolver.find(GOOD, project="one") == ["127.0.0.1"]
    with pytest.raises(ClusterUnavailable, match="was not resolved within 1 s"):
        await resolver.find(GOOD, project="one")


async def test_one_look_up_serves_all_who_ask_for_the_same_name(names: NameServers):
    resolver = Resolver(ClusterSettings(**LIMITS))
    asked = [resolver.find("same.dead.test", project=f"p{n % 2}") for n in range(30)]
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(one, ClusterUnavailable) for one in failures)
    assert names.asked == ["same.dead.test"]
    # It has its place until the name server's time is over; then the place is free again.
    names.over.set()
    await asyncio.gather(*(resolver.find(f"name{n}.test", project="p0") for n in range(6)))

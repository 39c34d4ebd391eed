"""The observer's looks at drift, of one release on the real cluster that is alone in the index."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from pilothouse.auth.sealing import MasterKeys
from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.observer.drift import DriftLooks
from pilothouse.services.clusters import Clusters, _sealing_context
from pilothouse.services.releases.drift import find_drift, keep_look
from pilothouse.services.releases.index import ReleaseIndex
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.settings import ClusterSettings, ObserverSettings
from pilothouse.store import cluster_watches, clusters, drift, release_index
from pilothouse.store.database import Database
from pilothouse.store.drift import DriftLook
from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand
from tests.support.tenants import add_project
from tools.localcluster.cluster import RunningCluster

SETTINGS = ObserverSettings(drift_requests_per_second=200, drift_seconds=1)


class Place:
    """The release ``web`` of Helm, in the index of a registered cluster."""

    def __init__(self, database: Database, services: Clusters, cluster_id: str, namespace: str) -> None:
        self.database = database
        self.services = services
        self.cluster_id = cluster_id
        self.namespace = namespace

    @asynccontextmanager
    async def looking(self, settings: ObserverSettings = SETTINGS) -> AsyncIterator[None]:
        task = asyncio.create_task(DriftLooks(self.cluster_id, self.database, self.services, settings).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def look(self, is_wanted: Callable[[DriftLook], bool]) -> DriftLook:
        """The last look, once it is as wanted."""
        async with asyncio.timeout(30):
            while True:
                async with self.database.autocommit() as connection:
                    found = await drift.find_look(connection, self.cluster_id, namespace=self.namespace, name="web")
                if found is not None and is_wanted(found):
                    return found
                await asyncio.sleep(0.05)


@pytest.fixture
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    yield client
    client.close()


@pytest.fixture
async def place(
    database: Database, kubernetes: RunningCluster, namespace: str, helm_cli: HelmCommand, tmp_path: Path
) -> AsyncIterator[Place]:
    chart = tmp_path / "chart.tgz"
    chart.write_bytes(build_chart("looked", templates={"map.yaml": config_map_template()}, values={"text": "x"}))
    await asyncio.to_thread(helm_cli, "install", "web", str(chart), "-n", namespace)
    keys, settings = MasterKeys({b"look": bytes(32)}), ClusterSettings(allow_loopback=True)
    caller, _, _ = await add_project(database, keys)
    sanitised = sanitise(kubernetes.kubeconfig.read_text(), addresses=Addresses(allow_loopback=True))
    clients = ClusterClients(settings)
    made = Place(database, Clusters(database, keys, clients, settings), str(uuid.uuid4()), namespace)
    async with database.transaction() as tx:
        await clusters.add_cluster(
            tx,
            cluster_id=made.cluster_id,
            project_id=caller.project_id,
            name="looked",
            server=sanitised.server,
            kubeconfig_sealed=keys.seal(sanitised.text.encode(), context=_sealing_context(made.cluster_id)),
        )
        await cluster_watches.add_cluster_watch(tx, made.cluster_id)
    client = made.services.client(await made.services.reach(made.cluster_id, project_id=None))
    secret = await client.find_release_secret(namespace=namespace, name="web", revision=1)
    assert secret is not None
    row = ReleaseIndex(keys).read(made.cluster_id, secret)
    assert row is not None
    async with database.transaction() as tx:
        await release_index.apply_revisions(tx, made.cluster_id, [row])
    yield made
    await clients.close()
    async with database.transaction() as tx:
        await clusters.remove_cluster(tx, made.cluster_id, project_id=caller.project_id)


async def edit(api: Client, namespace: str, text: str) -> None:
    def patch() -> Any:
        [found] = list(api.list(ConfigMap, namespace=namespace, labels={"app.kubernetes.io/managed-by": "Helm"}))
        assert found.metadata is not None
        change = {"data": {"text": text}}
        return api.patch(
            ConfigMap,
            str(found.metadata.name),
            change,
            namespace=namespace,
            patch_type=PatchType.MERGE,
            field_manager="kubectl-edit",
        )

    await asyncio.to_thread(patch)


async def test_drift_is_found_and_its_end_and_each_is_announced(place: Place, api: Client):
    with psycopg.connect(place.database.dsn(), autocommit=True) as listener:
        listener.execute("LISTEN pilothouse_operation_news")
        async with place.looking():
            assert (await place.look(lambda _: True)).drifted is False
            await edit(api, place.namespace, "edited")
            found = await place.look(lambda one: one.drifted)
            assert (found.revision, found.changed, found.problem) == (1, 1, "")
            await edit(api, place.namespace, "x")
            await place.look(lambda one: not one.drifted)
        told = [one.payload for one in listener.notifies(timeout=0.5)]
    key = drift.drift_key(place.cluster_id, place.namespace, "web")
    assert [one for one in told if one == key] == [key] * 2


async def set_interval(place: Place, seconds: int | None) -> None:
    async with place.database.transaction() as tx:
        row = await clusters.find_cluster(tx, place.cluster_id, project_id=None)
        assert row is not None
        await clusters.set_drift_seconds(tx, place.cluster_id, project_id=row.project_id, seconds=seconds)


@pytest.mark.parametrize(
    ("server_seconds", "own_seconds", "is_due", "is_due_again"),
    [
        (3600, 1, True, True),
        (0, 1, True, True),
        (1, None, True, True),
        (1, 3600, True, False),
        (1, 0, False, False),
        (0, None, False, False),
    ],
)
async def test_a_cluster_is_looked_at_as_often_as_it_says_or_else_as_the_server_does(
    place: Place, server_seconds: int, own_seconds: int | None, *, is_due: bool, is_due_again: bool
):
    async def due() -> bool:
        async with place.database.autocommit() as connection:
            return await drift.find_due(connection, place.cluster_id, older_seconds=server_seconds) is not None

    await set_interval(place, own_seconds)
    assert await due() is is_due
    found = dict.fromkeys(("added", "changed", "removed", "unknown"), 0)
    async with place.database.transaction() as tx:
        at = {"namespace": place.namespace, "name": "web"}
        await drift.record_look(tx, place.cluster_id, **at, revision=1, found=found)
    assert not await due()
    await asyncio.sleep(1.1)
    assert await due() is is_due_again


async def test_a_look_keeps_its_pace(place: Place):
    """A look at this release takes at least eight requests: its Secrets, kinds, the object twice, and lists."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with place.looking(ObserverSettings(drift_requests_per_second=20, drift_seconds=60)):
        await place.look(lambda _: True)
    assert loop.time() - began > 7 / 20


async def test_why_nothing_could_be_looked_at_is_kept(place: Place):
    async with place.looking():
        await place.look(lambda _: True)
    rules: list[dict[str, Any]] = [{"pointer": 7}]
    async with place.database.transaction() as tx:
        await drift.replace_rules(tx, place.cluster_id, namespace=place.namespace, name="web", rules=rules)
    async with place.looking():
        found = await place.look(lambda one: bool(one.problem))
    assert found.revision == 1
    assert "the ignore rules of release 'web' are damaged" in found.problem


async def test_a_look_that_could_read_nothing_leaves_what_the_one_before_found(place: Place, api: Client):
    await edit(api, place.namespace, "edited")
    async with place.looking():
        await place.look(lambda one: one.drifted)
    client = place.services.client(await place.services.reach(place.cluster_id, project_id=None))
    [(stored, _)] = await read_unsuperseded(client, place.namespace, "web")

    blind = await find_drift(client, stored, (), seconds=0)
    assert blind.summary == {**dict.fromkeys(blind.summary, 0), "unknown": 1}
    async with place.database.transaction() as tx:
        await keep_look(tx, place.cluster_id, blind, namespace=place.namespace, name="web")

    found = await place.look(lambda _: True)
    assert (found.revision, found.changed, found.drifted) == (1, 1, True)
    assert found.problem == "nothing could be compared: no object of revision 1 could be read"

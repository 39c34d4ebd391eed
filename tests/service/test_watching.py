"""A cluster is watched through everything that goes wrong with one: the index ends at what the cluster has."""

import asyncio
import base64
import gzip
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import psycopg
import pytest
from sqlalchemy import event, select, text
from structlog.testing import capture_logs

from pilothouse.auth.sealing import MasterKeys
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.observer.confirmations import Confirmations
from pilothouse.observer.observer import Observer
from pilothouse.services.clusters import Clusters, _sealing_context
from pilothouse.services.releases.index import ReleaseIndex
from pilothouse.settings import ClusterSettings, ObserverSettings
from pilothouse.store import cluster_watches, clusters, drift, releases
from pilothouse.store.database import Database
from pilothouse.store.release_index import NewRevision, SeenSecret
from pilothouse.store.tables import release_revisions
from tests.support.fake_api_servers import kubeconfig, peer
from tests.support.secret_storage import Secret, SecretStorage
from tests.support.tenants import add_project

SETTINGS = ObserverSettings(lease_seconds=1.5, renew_seconds=0.2, window_seconds=5, retry_seconds=0.5)
Found = TypeVar("Found")


class Place:
    """A storage that is registered as a cluster, and observers that may watch it."""

    def __init__(self, database: Database, folder: Path, storage: SecretStorage) -> None:
        self.database = database
        self.storage = storage
        self.keys = MasterKeys.load_or_create(folder / "master.key")
        self.clients = ClusterClients(ClusterSettings(allow_loopback=True, answer_seconds=2))
        self.services = Clusters(database, self.keys, self.clients, ClusterSettings(allow_loopback=True))
        self.cluster_id = str(uuid.uuid4())
        self.project_id = ""
        self.observers: list[Observer] = []
        self._stops: dict[asyncio.Event, asyncio.Task[None]] = {}

    async def start(self, port: int) -> None:
        caller, _, _ = await add_project(self.database, self.keys)
        self.project_id = caller.project_id
        await self.register(port, self.cluster_id)

    async def register(self, port: int, cluster_id: str) -> None:
        async with self.database.transaction() as tx:
            await clusters.add_cluster(
                tx,
                cluster_id=cluster_id,
                project_id=self.project_id,
                name=cluster_id,
                server=f"https://127.0.0.1:{port}",
                kubeconfig_sealed=self.keys.seal(kubeconfig(port).encode(), context=_sealing_context(cluster_id)),
            )
            await cluster_watches.add_cluster_watch(tx, cluster_id)

    async def remove(self, cluster_id: str) -> None:
        async with self.database.transaction() as tx:
            await clusters.remove_cluster(tx, cluster_id, project_id=self.project_id)
            await cluster_watches.announce(tx)

    def observe(self, settings: ObserverSettings = SETTINGS) -> asyncio.Event:
        """Return an observer that runs until the event is set."""
        stop = asyncio.Event()
        observer = Observer(self.database, self.services, ReleaseIndex(self.keys), settings)
        self.observers.append(observer)
        self._stops[stop] = asyncio.create_task(observer.run(stop))
        return stop

    async def stop(self, observer: asyncio.Event) -> None:
        observer.set()
        await self._stops.pop(observer)

    async def close(self) -> None:
        for observer in list(self._stops):
            await self.stop(observer)
        await self.clients.close()
        await self.remove(self.cluster_id)

    async def shown(self) -> dict[str, list[tuple[int, str]]]:
        """Every release with number and status of its revisions, newest first."""
        async with self.database.autocommit() as connection:
            page = await releases.read_page(
                connection,
                self.cluster_id,
                namespace=None,
                after=("", ""),
                limit=100,
                budget_bytes=1 << 20,
                with_values=False,
            )
            found = {}
            for one in page.releases:
                release = await releases.find_release(
                    connection,
                    self.cluster_id,
                    project_id=self.project_id,
                    namespace="shop",
                    name=one.name,
                    revisions=9,
                )
                assert release is not None
                found[one.name] = [(row.revision, row.status) for row in release.revisions]
        return found

    async def state(self) -> cluster_watches.ClusterWatchRow:
        async with self.database.autocommit() as connection:
            found = await clusters.find_watched(connection, self.cluster_id)
        assert found is not None
        return found[0]

    async def until_shown(self, **expected: list[tuple[int, str]]) -> None:
        await eventually(self.shown, lambda found: found == expected)

    async def until_listed(self) -> None:
        await eventually(self.state, lambda found: found.listed_at is not None)


async def eventually(
    look: Callable[[], Awaitable[Found]], is_it: Callable[[Found], bool], *, seconds: float = 20
) -> Found:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not is_it(found := await look()):
        assert loop.time() < until, found
        await asyncio.sleep(0.05)
    return found


@pytest.fixture
async def place(own_database: Database, tmp_path: Path) -> AsyncIterator[Place]:
    storage = SecretStorage()
    async with peer(storage.handle, tmp_path) as port:
        made = Place(own_database, tmp_path, storage)
        await made.start(port)
        yield made
        await made.close()


def release(name: str, revision: int = 1, *, status: str = "deployed") -> Secret:
    payload: dict[str, Any] = {
        "name": name,
        "namespace": "shop",
        "version": revision,
        "info": {"status": status},
        "chart": {"metadata": {"name": "web", "version": "1.0.0"}},
    }
    text = base64.b64encode(gzip.compress(json.dumps(payload).encode()))
    return {
        "metadata": {
            "namespace": "shop",
            "name": f"sh.helm.release.v1.{name}.v{revision}",
            "uid": str(uuid.uuid4()),
            "labels": {"owner": "helm", "name": name, "version": str(revision), "status": status},
        },
        "type": "helm.sh/release.v1",
        "data": {"release": base64.b64encode(text).decode()},
    }


async def test_what_was_there_and_what_comes_is_shown(place: Place):
    for name in "abcde":  # three pages
        await place.storage.put(release(name))
    place.observe()
    await place.until_listed()
    assert await place.shown() == {name: [(1, "deployed")] for name in "abcde"}
    await place.storage.put(release("a", 1, status="superseded"))
    await place.storage.put(release("a", 2, status="pending-upgrade"))
    await place.storage.put(release("a", 2))
    for name in "bcde":
        await place.storage.delete(release(name))
    await place.until_shown(a=[(2, "deployed"), (1, "superseded")])


async def test_what_a_worker_wrote_is_not_read_again(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.observe()
    await place.until_listed()
    ours, index = release("ours"), ReleaseIndex(place.keys)
    ours["metadata"]["resourceVersion"] = str(place.storage.version + 1)
    async with place.database.transaction() as tx:
        await index.record(tx, place.cluster_id, ours)
    read: list[str] = []
    original = ReleaseIndex.read

    def note(self: ReleaseIndex, cluster_id: str, secret: Secret, *seen: SeenSecret) -> NewRevision | None:
        read.append(secret["metadata"]["name"])
        return original(self, cluster_id, secret, *seen)

    monkeypatch.setattr(ReleaseIndex, "read", note)
    await place.storage.put(ours)
    await place.storage.put(release("other"))
    await place.until_shown(ours=[(1, "deployed")], other=[(1, "deployed")])
    assert read == [release("other")["metadata"]["name"]]
    await place.storage.put(release("ours", status="superseded"))
    await place.until_shown(ours=[(1, "superseded")], other=[(1, "deployed")])


async def test_what_quiet_clusters_confirm_is_written_for_all_at_once(place: Place):
    place.observe()
    await place.until_listed()
    port = int((await _servers(place)).pop().rpartition(":")[2])
    more = [str(uuid.uuid4()) for _ in range(7)]
    for cluster_id in more:
        await place.register(port, cluster_id)
    await eventually(lambda: _versions(place), lambda found: found == [100] * 8)
    written: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if "seen_at" in statement and statement.lstrip().startswith("UPDATE cluster_watches"):
            written.append(statement)

    event.listen(place.database._engine.sync_engine, "before_cursor_execute", note)
    place.storage.version = 150
    await place.storage.say({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "150"}}})
    await eventually(lambda: _versions(place), lambda found: found == [150] * 8)
    event.remove(place.database._engine.sync_engine, "before_cursor_execute", note)
    assert len(written) <= 4, "two rounds of the observer may write it, and a watch that begins meanwhile adds one"
    for cluster_id in more:
        await place.remove(cluster_id)


async def _versions(place: Place) -> list[int]:
    """How far the index is with each cluster that is watched."""
    async with await psycopg.AsyncConnection.connect(place.database.dsn()) as connection:
        rows = await connection.execute("SELECT resource_version FROM cluster_watches WHERE holder <> ''")
        return [row[0] for row in await rows.fetchall()]


async def test_a_change_that_a_worker_wrote_already_is_confirmed_at_once(place: Place, monkeypatch: pytest.MonkeyPatch):
    """Nobody may lose it: a cluster that is restored to a moment before it must be noticed."""

    async def lose(*_: object) -> None:
        """Lose what waits, as an observer that dies."""

    monkeypatch.setattr(Confirmations, "write", lose)
    place.observe()
    await place.until_listed()
    ours, index = release("ours"), ReleaseIndex(place.keys)
    ours["metadata"]["resourceVersion"] = str(place.storage.version + 1)
    async with place.database.transaction() as tx:
        await index.record(tx, place.cluster_id, ours)
    await place.storage.put(ours)
    await eventually(place.state, lambda found: found.resource_version == place.storage.version)


async def test_a_watch_that_is_cut_goes_on_where_it_was(place: Place):
    place.observe()
    await place.until_listed()
    await place.storage.put(release("a"))
    await place.until_shown(a=[(1, "deployed")])
    await place.storage.cut()
    await place.storage.put(release("b"))
    await place.storage.cut()
    await place.until_shown(a=[(1, "deployed")], b=[(1, "deployed")])
    assert sum("continue" not in one and "watch" not in one and "%21" not in one for one in place.storage.requests) == 1


async def test_a_watch_whose_past_is_forgotten_lists_again(place: Place):
    await place.storage.put(release("gone"))
    await place.storage.put(release("stays"))
    observer = place.observe()
    await place.until_listed()
    await place.stop(observer)
    await place.storage.delete(release("gone"))
    await place.storage.put(release("new"))
    await place.storage.forget()
    place.observe()
    await place.until_shown(new=[(1, "deployed")], stays=[(1, "deployed")])
    await place.storage.put(release("later"))
    await eventually(place.shown, lambda found: "later" in found)


async def test_a_list_that_expires_between_two_pages_begins_anew(place: Place):
    for name in "abcde":
        await place.storage.put(release(name))
    place.storage.page = 1
    listing = asyncio.Event()
    handle = place.storage._list

    async def forget_once(writer: asyncio.StreamWriter, query: dict[str, str]) -> None:
        if "continue" in query and not listing.is_set():
            listing.set()
            await place.storage.forget()
        await handle(writer, query)

    place.storage._list = forget_once  # type: ignore[method-assign]
    place.observe()
    await place.until_listed()
    assert listing.is_set()
    assert sorted(await place.shown()) == list("abcde")


async def test_a_restored_backup_is_read_again_and_nothing_looks_empty_meanwhile(place: Place):
    old = release("old")
    for secret in (old, release("lost"), release("lost", 2)):
        await place.storage.put(secret)
    place.observe()
    await place.until_listed()
    kept = [place.storage.secrets["shop", "sh.helm.release.v1.old.v1"]]
    kept[0]["metadata"]["resourceVersion"] = "7"
    await place.storage.restore([*kept], version=9)
    await place.until_shown(old=[(1, "deployed")])
    assert (await place.state()).epoch == 1
    await place.storage.put(release("after"))
    await place.until_shown(old=[(1, "deployed")], after=[(1, "deployed")])


async def test_a_bookmark_from_the_past_is_looked_into(place: Place):
    await place.storage.put(release("a"))
    place.observe()
    await place.until_listed()
    await place.storage.say({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "3"}}})
    await place.storage.put(release("b"))
    await place.until_shown(a=[(1, "deployed")], b=[(1, "deployed")])
    assert (await place.state()).epoch == 0


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"[]",
        b'{"type": "ADDED"}',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "101"}}}',
        b'{"type": "UNHEARD", "object": {}}',
        b'{"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "ill"}}',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "x"}}}',
        b'{"x": "' + b"y" * (9 * 1024 * 1024) + b'"}',
    ],
    ids=lambda line: line[:40].decode(),
)
async def test_nonsense_in_a_watch_does_not_end_it(place: Place, line: bytes):
    place.observe()
    await place.until_listed()
    place.storage.version += 1
    await place.storage.say(line)
    await place.storage.put(release("a"))
    await place.until_shown(a=[(1, "deployed")])


async def test_a_connection_that_falls_silent_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pilothouse.observer.watcher._GRACE_SECONDS", 0.2)
    place.observe()
    await place.until_listed()
    place.storage.silent = True
    await place.storage.put(release("a"))
    await eventually(place.state, lambda found: "stopped responding" in found.error)
    place.storage.silent = False
    await place.until_shown(a=[(1, "deployed")])
    await eventually(place.state, lambda found: found.error == "")


async def test_observers_take_over_from_each_other(place: Place):
    await place.storage.put(release("a"))
    first = place.observe()
    await place.until_listed()
    second = place.observe()
    await place.stop(first)
    await place.storage.put(release("b"))
    await place.until_shown(a=[(1, "deployed")], b=[(1, "deployed")])
    await place.stop(second)


async def test_an_observer_stops_though_it_is_woken_at_the_same_moment(place: Place, monkeypatch: pytest.MonkeyPatch):
    async def nothing() -> None:
        """Do nothing, as in a turn without work."""

    for turns in range(8):
        stop = place.observe()
        monkeypatch.setattr(place.observers[-1], "_share", nothing)
        await asyncio.sleep(0.1)  # until it waits for its next turn
        stop.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        place.observers[-1]._wake.set()
        async with asyncio.timeout(10):
            await place.stop(stop)


async def test_observers_share_the_clusters(place: Place):
    place.observe()
    await place.until_listed()
    port = int((await _servers(place)).pop().rpartition(":")[2])
    more = [str(uuid.uuid4()) for _ in range(3)]
    for cluster_id in more:
        await place.register(port, cluster_id)
    await eventually(lambda: _held(place), lambda held: held == [4])
    other = place.observe()
    await eventually(lambda: _held(place), lambda held: held == [2, 2])
    await place.stop(other)
    await eventually(lambda: _held(place), lambda held: held == [4])
    for cluster_id in more:
        await place.remove(cluster_id)


async def _held(place: Place) -> list[int]:
    """How many clusters each observer holds."""
    async with await psycopg.AsyncConnection.connect(place.database.dsn()) as connection:
        rows = await connection.execute("SELECT count(*) FROM cluster_watches WHERE holder <> '' GROUP BY holder")
        return [row[0] for row in await rows.fetchall()]


async def _servers(place: Place) -> set[str]:
    async with place.database.autocommit() as connection:
        return {row.server for row in await clusters.list_clusters(connection, project_id=place.project_id)}


async def test_a_removed_cluster_is_let_go(place: Place):
    place.observe()
    await place.until_listed()
    await place.remove(place.cluster_id)
    asked = len(place.storage.requests)
    await place.storage.cut()
    await asyncio.sleep(3 * SETTINGS.renew_seconds)
    assert len(place.storage.requests) <= asked + 1


def replacing_the_cancel(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> asyncio.Event:
    """Have a statement wait until it is cancelled and then raise something else; the event is set when it waits."""
    waits = asyncio.Event()

    async def statement(*_: object, **__: object) -> None:
        """Wait, as psycopg may at any of its statements."""
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("what a library made of the cancel") from None

    monkeypatch.setattr(module, name, statement)
    return waits


@pytest.mark.parametrize("how", ["the cluster is removed", "the observer is stopped"])
async def test_what_comes_of_the_end_of_a_watch_is_no_failure(place: Place, monkeypatch: pytest.MonkeyPatch, how: str):
    stop = place.observe()
    await place.until_listed()
    waits = replacing_the_cancel(monkeypatch, cluster_watches, "note_seen")
    with capture_logs() as logged:
        await place.storage.put(release("a"))
        async with asyncio.timeout(10):
            await waits.wait()
        if how == "the cluster is removed":
            await place.remove(place.cluster_id)
            await eventually(lambda: _watches(place.cluster_id), lambda found: not found)
        async with asyncio.timeout(10):
            await place.stop(stop)
    assert not await _failures(logged)


async def test_what_comes_of_the_end_of_looks_at_drift_is_no_failure(place: Place, monkeypatch: pytest.MonkeyPatch):
    waits = replacing_the_cancel(monkeypatch, drift, "find_due")
    with capture_logs() as logged:
        stop = place.observe(SETTINGS.model_copy(update={"drift_requests_per_second": 10}))
        async with asyncio.timeout(10):
            await waits.wait()
            await place.stop(stop)
    assert not await _failures(logged)


async def test_a_failure_of_a_watch_that_goes_on_is_logged(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.observe()
    await place.until_listed()
    with capture_logs() as logged, monkeypatch.context() as patches:
        waits = replacing_the_cancel(patches, cluster_watches, "note_seen")
        await place.storage.put(release("a"))
        async with asyncio.timeout(10):
            await waits.wait()
        [watch] = await _watches(place.cluster_id)
        watch.cancel()  # by nobody who ends watches
        await eventually(lambda: _failures(logged), lambda found: found == ["watch_failed"])
    await place.until_shown(a=[(1, "deployed")])


async def _watches(cluster_id: str) -> list[asyncio.Task[Any]]:
    """The running tasks that watch the cluster."""
    return [task for task in asyncio.all_tasks() if task.get_name() == f"watch-{cluster_id[:8]}"]


async def _failures(logged: list[MutableMapping[str, Any]]) -> list[str]:
    return [line["event"] for line in logged if line["log_level"] in {"error", "critical"}]


async def test_a_cluster_is_removed_while_its_news_is_written_without_waiting_in_a_circle(place: Place):
    await place.storage.put(release("a"))
    place.observe()
    await place.until_shown(a=[(1, "deployed")])
    async with place.database.transaction() as worker:
        await worker.execute(select(release_revisions.c.secret).with_for_update())
        await place.storage.put(release("a", status="superseded"))
        await eventually(lambda: _waiting(place, "%release_revisions%"), bool)
        removing = asyncio.create_task(place.remove(place.cluster_id))
        await eventually(lambda: _waiting(place, "DELETE FROM clusters %"), bool)
    await removing


async def _waiting(place: Place, statement: str) -> int:
    """How many statements like this, of this database, wait for another's lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        " AND query LIKE :statement"
    )
    async with place.database.autocommit() as connection:
        return int((await connection.execute(text(query), {"statement": statement})).scalar_one())

"""Sources are synchronised whatever one of them has, and what they may take is limited."""

import asyncio
import hashlib
import json
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import text

from pilothouse.auth.sealing import MasterKeys
from pilothouse.chart_sources.registry import CHART, CONFIG, MANIFEST
from pilothouse.engine.pool import EnginePool
from pilothouse.errors import InvalidSource
from pilothouse.services.sources.sync import SourceSync
from pilothouse.settings import EngineSettings, Settings, SourceSettings
from pilothouse.store import archives, described_versions, refused_versions, source_charts, source_versions
from pilothouse.store import sources as store
from pilothouse.store.charts import ChartContent
from pilothouse.store.database import Database
from pilothouse.store.sources import SourceRow
from tests.support.chart_sources import Reply, Repository, Request, repository

KEYS = MasterKeys({b"\x00\x00\x00\x01": bytes(32)})


def index(name: str) -> bytes:
    entry = {"apiVersion": "v2", "name": name, "version": "1.0.0", "urls": ["x.tgz"]}
    return json.dumps({"apiVersion": "v1", "entries": {name: [entry]}}).encode()


class Place:
    """The projects p and q, their sources, and what synchronises them."""

    def __init__(self, database: Database, sync: SourceSync) -> None:
        self.database = database
        self.sync = sync

    async def add(self, serving: Repository, *, project: str = "p", kind: str = "http") -> SourceRow:
        source = str(uuid.uuid4())
        new = store.NewSource(
            id=source,
            project_id=project,
            name=f"source-{source}",
            kind=kind,
            url=serving.url.replace("https", "oci") if kind == "oci" else serving.url,
            credentials_sealed=None,
            ca=serving.ca,
            sync_seconds=3600,
        )
        async with self.database.transaction() as tx:
            row = await store.add(tx, new)
            await tx.execute(text("UPDATE chart_sources SET due_at = clock_timestamp()"))
        return row

    async def find(self, row: SourceRow) -> SourceRow:
        async with self.database.autocommit() as connection:
            found = await store.find_by_id(connection, row.id)
        assert found is not None
        return found

    @asynccontextmanager
    async def syncing(self) -> AsyncIterator["asyncio.Task[None]"]:
        task = asyncio.create_task(self.sync.keep_syncing())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until_ended(self, row: SourceRow) -> SourceRow:
        """Return the source once it was synchronised, or could not be."""
        async with asyncio.timeout(30):
            while not ((found := await self.find(row)).synced_at or found.problem):  # noqa: ASYNC110 - rows set no event
                await asyncio.sleep(0.05)
        return found


@pytest.fixture
async def place(own_database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    sources = SourceSettings(allow_loopback=True, **getattr(request, "param", {}))
    settings = Settings(data_dir=tmp_path, sources=sources, engine=EngineSettings(children=1))
    async with await psycopg.AsyncConnection.connect(own_database.dsn(), autocommit=True, row_factory=dict_row) as rows:
        await rows.execute("INSERT INTO domains (id, name) VALUES ('d', 'd')")
        for project in ("p", "q"):
            await rows.execute("INSERT INTO projects (id, domain_id, name) VALUES (%s, 'd', %s)", [project, project])
    engine = EnginePool(settings.engine, state_dir=tmp_path / "engine")
    await engine.start()
    try:
        yield Place(own_database, SourceSync(own_database, KEYS, engine, settings))
    finally:
        await engine.close()


@pytest.fixture
def repo() -> Iterator[Repository]:
    with repository() as serving:
        yield serving


async def test_what_cannot_be_kept_is_told_and_ends_no_other_source(place: Place, repo: Repository):
    refused = "ALTER TABLE source_versions ADD CONSTRAINT unforeseen CHECK (name <> 'poison')"
    async with place.database.transaction() as tx:
        await tx.execute(text(refused))
    repo.files["index.yaml"] = index("poison")
    bad = await place.add(repo)
    with repository() as other:
        other.files["index.yaml"] = index("webapp")
        good = await place.add(other, project="q")
        async with place.syncing() as task:
            assert (await place.until_ended(good)).problem == ""
            told = await place.until_ended(bad)
            assert not task.done()
    assert told.problem == "its answer cannot be processed; the log of Pilothouse has the cause"
    assert (told.synced_at, told.syncing_until) == (None, None)


async def test_a_source_that_hangs_holds_up_no_other_project(place: Place, repo: Repository):
    asked, may_go_on = threading.Event(), threading.Event()

    def answers(_request: Request) -> Reply:
        asked.set()
        may_go_on.wait(60)
        return Reply(index("slow"))

    repo.answers = answers
    try:
        slow, second = await place.add(repo), await place.add(repo)
        with repository() as serving:
            serving.files["index.yaml"] = index("webapp")
            other = await place.add(serving, project="q")
            async with place.syncing():
                await asyncio.to_thread(asked.wait, 30)
                assert (await place.until_ended(other)).problem == ""
                assert len(repo.requests) == 1, "of one project, one after the other"
                assert [(await place.find(row)).synced_at for row in (slow, second)] == [None, None]
    finally:
        may_go_on.set()


async def test_a_source_is_given_back_at_once_if_its_server_is_stopped_meanwhile(place: Place, repo: Repository):
    asked, may_go_on = threading.Event(), threading.Event()

    def answers(_request: Request) -> Reply:
        asked.set()
        may_go_on.wait(60)
        return Reply(index("slow"))

    repo.answers = answers
    row = await place.add(repo)
    try:
        async with place.syncing():
            await asyncio.to_thread(asked.wait, 30)
            assert (await place.find(row)).syncing_until is not None
        assert (await place.find(row)).syncing_until is None
    finally:
        may_go_on.set()


@pytest.mark.parametrize("place", [{"fetches": 8}], indirect=True)
async def test_a_project_fetches_at_a_quarter_of_the_places(place: Place, repo: Repository):
    row, other = await place.add(repo), await place.add(repo, project="q")
    entered: list[str] = []
    last, leave = asyncio.Event(), asyncio.Event()

    async def fetch(source: SourceRow) -> None:
        async with place.sync.fetching(source):
            entered.append(source.project_id)
            if source is other:
                last.set()
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        for source in (row, row, row, other):
            group.create_task(fetch(source))
        await asyncio.wait_for(last.wait(), 30)
        assert entered == ["p", "p", "q"]
        leave.set()
    assert entered == ["p", "p", "q", "p"]


def tags(**charts: int) -> Any:
    """Return what a registry with so many versions of each chart answers."""

    def answers(request: Request) -> Reply:
        for name, number in charts.items():
            if request.path.startswith(f"/v2/{name}/tags/list"):
                return Reply(json.dumps({"tags": [f"1.0.{patch}" for patch in range(number)]}).encode())
        return Reply(json.dumps({"repositories": list(charts)}).encode())

    return answers


@pytest.mark.parametrize("place", [{"versions": 10}], indirect=True)
async def test_a_registry_with_more_versions_than_a_source_may_have_is_refused(place: Place, repo: Repository):
    row = await place.add(repo, kind="oci")
    for charts, number in (({"webapp": 11}, 11), ({"webapp": 6, "tools": 5}, 11)):
        repo.answers = tags(**charts)
        with pytest.raises(InvalidSource, match=f"has {number} versions or more; the limit of a source is 10 "):
            await place.sync.sync(row)
        assert "PILOTHOUSE_SOURCES__VERSIONS" in (await place.find(row)).problem
    repo.answers = tags(webapp=6, tools=4)
    await place.sync.sync(row)
    assert (await place.find(row)).problem == ""
    keys = {f"2.0.{patch}": f"{patch}~" for patch in range(5)}
    with pytest.raises(InvalidSource, match="has 11 versions or more"):
        async with place.database.transaction() as tx:  # as for a chart whose tags are listed by themselves
            await place.sync.keep_charts(tx, row.id, {"tools": keys})


async def test_a_search_with_prereleases_reads_each_version_a_few_times(place: Place, repo: Repository):
    """A search of all versions for the newest of each would read 300 * 300."""
    row, number = await place.add(repo), 300
    keys = {f"1.0.0-rc.{patch}": f"1-{patch:04}!" for patch in range(number)}
    async with place.database.transaction() as tx:
        await source_charts.add_versions(tx, row.id, "webapp", keys)
        await source_charts.add_versions(tx, row.id, "tools", {"1.0.0": "1~", "2.0.0-rc.1": "2-1!"})
        await source_charts.add_versions(tx, row.id, "same", {"1.0.0+b": "1~", "1.0.0+a": "1~"})
    async with place.database.transaction() as tx:
        found = await source_versions.search(tx, [row.id], words="", prereleases=True, after="", limit=10)
        read = await tx.execute(
            text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'source_versions'")
        )
        assert read.scalar_one() < 10 * number
    assert [(one.name, one.version) for _, one in found] == [
        ("same", "1.0.0+a"),
        ("tools", "2.0.0-rc.1"),
        ("webapp", "1.0.0-rc.299"),
    ]
    async with place.database.autocommit() as connection:
        after = f"same {row.id}"
        (first,) = await source_versions.search(connection, [row.id], words="", prereleases=True, after=after, limit=1)
        assert (first[1].name, first[1].order_key) == ("tools", "2-1!")
        (only,) = await source_versions.search(connection, [row.id], words="OOL", prereleases=False, after="", limit=9)
        assert only[1].version == "1.0.0"


async def test_a_page_of_versions_and_the_one_to_propose(place: Place, repo: Repository):
    row = await place.add(repo)
    keys = {f"1.0.{patch}": f"1{patch}~" for patch in range(5)} | {"1.0.4+b": "14~", "2.0.0-rc": "2-!"}
    async with place.database.transaction() as tx:
        await source_charts.add_versions(tx, row.id, "webapp", keys)
        pages, after = [], ""
        while page := await source_versions.list_versions(tx, row.id, "webapp", after=after, limit=3):
            pages.append([one.version for one in page])
            after = page[-1].marker
        summary = await source_versions.summarise(tx, row.id, "webapp")
        assert await source_versions.summarise(tx, row.id, "tools") is None
        assert await source_versions.list_versions(tx, row.id, "webapp", after="nonsense", limit=3) == []
    assert pages == [["2.0.0-rc", "1.0.4", "1.0.4+b"], ["1.0.3", "1.0.2", "1.0.1"], ["1.0.0"]]
    assert summary is not None
    assert (summary.count, summary.refused, summary.newest.version) == (7, 0, "1.0.4")
    async with place.database.transaction() as tx:
        for version in ("1.0.4", "1.0.4+b"):
            found = {"name": "webapp", "version": version, "digest": ""}
            await refused_versions.note(tx, row.id, **found, reason="no key has signed it", evidence="")
        summary = await source_versions.summarise(tx, row.id, "webapp")
    assert summary is not None
    assert (summary.count, summary.refused, summary.newest.version) == (7, 2, "1.0.3")


class Tag:
    """A registry with one tag, webapp 1.0.0, which leads to a chart with that archive, or to something else."""

    def __init__(self) -> None:
        self.archive = "a" * 64
        self.config = CONFIG
        self.versions = ["1.0.0"]
        self.on_manifest: Callable[[], Reply | None] = lambda: None

    @property
    def manifest(self) -> bytes:
        layer = {"mediaType": CHART, "digest": f"sha256:{self.archive}", "size": 100}
        config = {"mediaType": self.config, "digest": f"sha256:{'0' * 64}", "size": 2}
        return json.dumps({"mediaType": MANIFEST, "config": config, "layers": [layer]}).encode()

    def answers(self, request: Request) -> Reply:
        if "/manifests/" in request.path:
            digest = f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"
            headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": digest}
            return self.on_manifest() or Reply(self.manifest, headers=headers)
        if "/tags/list" in request.path:
            return Reply(json.dumps({"tags": self.versions}).encode())
        return Reply(json.dumps({"repositories": ["webapp"]}).encode())


@pytest.fixture
def tag(repo: Repository) -> Tag:
    serving = Tag()
    repo.answers = serving.answers
    return serving


async def pulled(place: Place, row: SourceRow, tag: Tag) -> None:
    """Let the chart have been pulled by a program that did not note its manifest."""
    await place.sync.sync(row)
    content = ChartContent(
        name="webapp", version="1.0.0", digest=tag.archive, description="", icon_url="", instruction="",
        values_json="{}", source="source", visible=True,
    )  # fmt: skip
    async with place.database.transaction() as tx:
        await archives.add_archive(tx, digest=tag.archive, content=BytesIO(b"x" * 100), size=100)
        await source_charts.keep_pulled(
            tx, content, chart_id=str(uuid.uuid4()), project_id=row.project_id, source_id=row.id
        )


async def version_of(place: Place, row: SourceRow, version: str = "1.0.0") -> source_versions.SourceVersion | None:
    async with place.database.autocommit() as connection:
        return await source_versions.find_version(connection, row.id, "webapp", version)


async def synchronised(place: Place, row: SourceRow, repo: Repository) -> tuple[bool, str, list[str]]:
    """Return whether the version is moved and to what, and how its manifest was asked for."""
    repo.requests.clear()
    await place.sync.sync(row)
    found = await version_of(place, row)
    assert found is not None
    methods = [request.method for request in repo.requests if "/manifests/" in request.path]
    return found.moved_at is not None, found.moved_to, methods


async def test_a_manifest_is_read_when_it_is_another_than_was_seen_last(place: Place, repo: Repository, tag: Tag):
    row = await place.add(repo, kind="oci")
    await pulled(place, row, tag)
    assert await synchronised(place, row, repo) == (False, "", ["GET"])
    assert await synchronised(place, row, repo) == (False, "", ["HEAD"])
    tag.archive = "b" * 64
    for methods in (["HEAD", "GET"], ["HEAD"], ["HEAD"]):
        assert await synchronised(place, row, repo) == (True, "b" * 64, methods)
    tag.config = "application/json"
    for methods in (["HEAD", "GET"], ["HEAD"]):
        assert await synchronised(place, row, repo) == (True, "", methods)
    tag.archive, tag.config = "a" * 64, CONFIG
    for methods in (["HEAD", "GET"], ["HEAD"]):
        assert await synchronised(place, row, repo) == (False, "", methods)


async def test_what_is_described_is_asked_for_by_its_digest_and_kept_if_nobody_tells(
    place: Place, repo: Repository, tag: Tag
):
    row = await place.add(repo, kind="oci")
    await place.sync.sync(row)

    async def described(manifest: str) -> None:
        pushed = described_versions.DescribedVersion("webapp", "1.0.0", manifest)
        async with place.database.transaction() as tx:
            await described_versions.note_pushed(tx, row.id, pushed, description="Sails", app_version="7")

    async def known() -> tuple[str, str]:
        found = await version_of(place, row)
        assert found is not None
        return found.description, found.app_version

    await described("sha256:" + "c" * 64)
    assert await known() == ("Sails", "7")
    usual, tag.on_manifest = tag.on_manifest, lambda: Reply(status=503)
    assert await synchronised(place, row, repo) == (False, "", ["HEAD", "GET"])
    assert await known() == ("Sails", "7")
    tag.on_manifest = usual
    assert await synchronised(place, row, repo) == (False, "", ["HEAD"])
    assert await known() == ("", "")
    assert await synchronised(place, row, repo) == (False, "", [])

    await pulled(place, row, tag)
    assert await synchronised(place, row, repo) == (False, "", ["GET"])
    async with place.database.transaction() as tx:
        await source_charts.describe(tx, row.id, "webapp", "1.0.0", description="Sails", app_version="7")
        await tx.execute(text("DELETE FROM charts WHERE source_id = :source"), {"source": row.id})
    assert await synchronised(place, row, repo) == (False, "", ["HEAD"]), "its archive was dropped"
    assert await known() == ("Sails", "7")
    tag.versions = ["1.1.0"]
    await place.sync.sync(row)
    assert await version_of(place, row) is None


async def test_what_a_registry_refuses_to_tell_is_not_taken_for_no_chart(place: Place, repo: Repository, tag: Tag):
    row = await place.add(repo, kind="oci")
    await pulled(place, row, tag)
    tag.on_manifest = lambda: Reply(status=400)
    assert (await synchronised(place, row, repo))[:2] == (False, "")


@pytest.mark.parametrize("place", [{"fetch_seconds": 1.0}], indirect=True)
async def test_new_versions_are_listed_though_what_was_pulled_cannot_be_compared(
    place: Place, repo: Repository, tag: Tag
):
    row = await place.add(repo, kind="oci")
    await pulled(place, row, tag)
    may_go_on = threading.Event()
    tag.versions.append("1.1.0")
    tag.on_manifest = lambda: Reply(status=503) if may_go_on.wait(10) else None
    try:
        await place.sync.sync(row)
    finally:
        may_go_on.set()
    assert (await place.find(row)).problem == ""
    assert await version_of(place, row, "1.1.0") is not None


async def test_what_was_found_of_an_archive_does_not_count_for_another(place: Place, repo: Repository, tag: Tag):
    row = await place.add(repo, kind="oci")
    await pulled(place, row, tag)
    tag.archive = "b" * 64
    found = await place.sync.ask(row)
    await pulled(place, row, tag)  # as in a moment in which nobody waits for the answer
    async with place.database.transaction() as tx:
        await place.sync.keep(tx, row.id, replace(found, compared=[replace(found.compared[0], digest="c" * 64)]))
    version = await version_of(place, row)
    assert version is not None
    assert version.moved_to == "b" * 64, "as the synchronisation in between has found"


async def refuse(place: Place, row: SourceRow, version: str, evidence: str) -> None:
    async with place.database.transaction() as tx:
        await refused_versions.note(
            tx, row.id, name="webapp", version=version, digest="", reason="no signature", evidence=evidence
        )


async def still_refused(place: Place, row: SourceRow) -> list[str]:
    async with place.database.autocommit() as connection:
        return [one.version for one in await refused_versions.list_refused(connection, row.id, limit=100)]


@pytest.mark.usefixtures("tag")
async def test_what_was_refused_anew_meanwhile_stays_refused(place: Place, repo: Repository):
    row = await place.add(repo, kind="oci")
    await place.sync.sync(row)
    await refuse(place, row, "1.0.0", "before")
    found = await place.sync.ask(row)
    assert list(found.looked.values()) != ["before"]
    await refuse(place, row, "1.0.0", next(iter(found.looked.values())))
    async with place.database.transaction() as tx:
        await place.sync.keep(tx, row.id, found)
    assert await still_refused(place, row) == ["1.0.0"]


async def test_versions_that_nobody_tells_of_do_not_keep_others_refused(place: Place, repo: Repository, tag: Tag):
    row = await place.add(repo, kind="oci")
    tag.versions = [f"1.0.{patch}" for patch in range(21)]
    await place.sync.sync(row)
    for version in tag.versions:
        await refuse(place, row, version, "before")
    answers = tag.answers
    repo.answers = lambda one: (
        Reply(status=404) if "/manifests/" in one.path and "1.0.20" not in one.path else answers(one)
    )
    for left in (21, 20):
        await place.sync.sync(row)
        assert len(await still_refused(place, row)) == left
    assert "1.0.20" not in await still_refused(place, row)


async def test_a_registry_that_limits_requests_is_not_asked_on(place: Place, repo: Repository, tag: Tag):
    row = await place.add(repo, kind="oci")
    tag.versions = ["1.0.0", "1.0.1"]
    await place.sync.sync(row)
    for version in tag.versions:
        await refuse(place, row, version, "before")
    tag.on_manifest = lambda: Reply(status=429)
    repo.requests.clear()
    await place.sync.sync(row)
    assert len([one for one in repo.paths if "/manifests/" in one]) == 1
    assert await still_refused(place, row) == ["1.0.0", "1.0.1"]

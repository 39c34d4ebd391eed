"""Which source a release's chart came from, and what is newer there, on a real PostgreSQL."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import text

from pilothouse.auth.sealing import MasterKeys
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.store import archives, chart_origins, cluster_watches, clusters, metrics, release_index, source_charts
from pilothouse.store import sources as store
from pilothouse.store.charts import ChartContent
from pilothouse.store.database import Database
from pilothouse.store.release_index import NewRevision
from pilothouse.store.release_lists import ReleaseFilter, ReleaseSort, list_releases, list_rows
from tests.support.operations import accept, new_install
from tests.support.tenants import add_project

KEYS = MasterKeys({bytes(8): bytes(32)})
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
MIB = 1024 * 1024


@dataclass(frozen=True)
class Place:
    """A project with a cluster, and a source that has versions 1 to 3 of a chart."""

    caller: Caller
    database: Database
    source: str
    cluster: str

    async def offer(self, *versions: int) -> None:
        async with self.database.transaction() as tx:
            await source_charts.clear_chart(tx, self.source, "web")
            await source_charts.add_versions(tx, self.source, "web", {f"{one}.0.0": f"{one}~" for one in versions})
            await chart_origins.renew(tx, self.source)

    async def pull(self, version: int) -> str:
        content = ChartContent(
            name="web", version=f"{version}.0.0", digest=uuid.uuid4().hex, description="", icon_url="", instruction="",
            values_json="{}", source="source", visible=True,
        )  # fmt: skip
        async with self.database.transaction() as tx:
            await archives.add_archive(tx, digest=content.digest, content=BytesIO(b"x" * 100), size=100)
            kept = await source_charts.keep_pulled(
                tx, content, chart_id=str(uuid.uuid4()), project_id=self.caller.project_id, source_id=self.source
            )
            await chart_origins.renew(tx, self.source, name="web")
        return kept.id

    async def drop(self, *, besides: str) -> None:
        async with self.database.transaction() as tx:
            await source_charts.drop_pulled(tx, project_id=self.caller.project_id, most_bytes=1, besides=besides)

    async def install(self, chart_id: str, version: int, *, name: str = "web") -> None:
        """Put the revision into the index that an operation with that chart writes, and end the operation."""
        row = await accept(self.database, self.operation(chart_id, version, release_name=name, revision=1))
        async with self.database.transaction() as tx:
            await release_index.apply_revisions(tx, self.cluster, [revision(1, version, name, row.id)], epoch=None)
            ended = "UPDATE operations SET state = 'succeeded', wrote_revision = true, finished_at = clock_timestamp()"
            await tx.execute(text(f"{ended} WHERE id = :id"), {"id": row.id})

    def operation(self, chart_id: str, version: int, **other: Any) -> Any:
        return new_install(
            self.caller.project_id,
            self.caller.user_id,
            cluster_id=self.cluster,
            chart_id=chart_id,
            chart_name="web",
            chart_version=f"{version}.0.0",
            **other,
        )

    async def listed(self, **conditions: Any) -> list[tuple[str, str]]:
        async with self.database.autocommit() as connection:
            found = await list_releases(
                connection,
                project_id=self.caller.project_id,
                filters=ReleaseFilter(**conditions),
                sort=ReleaseSort("name"),
                limit=10,
            )
        assert all(bool(one.source) for one in found)
        return [(one.name, one.update_available) for one in found]

    async def known(self) -> int:
        async with self.database.autocommit() as connection:
            query = text("SELECT count(*) FROM chart_origins WHERE source_id = :source")
            return int((await connection.execute(query, {"source": self.source})).scalar_one())


def revision(number: int, version: int, name: str = "web", operation_id: str = "", **other: Any) -> NewRevision:
    usual: dict[str, Any] = {"chart_name": "web", "chart_version": f"{version}.0.0", "status": "deployed",
                             "resource_version": 10 + number}  # fmt: skip
    return NewRevision(
        namespace="default", secret=f"sh.helm.release.v1.{name}.v{number}", name=name, revision=number,
        problem="", uid=f"uid-{number}", description="", first_deployed=LONG_AGO,
        last_deployed=LONG_AGO, deleted_at=None, values_sealed=None, values_text_size=0, app_version="7", manager="",
        operation_id=operation_id, **usual | other,
    )  # fmt: skip


@pytest.fixture
async def place(own_database: Database) -> Place:
    caller, _, _ = await add_project(own_database, KEYS)
    made = Place(caller, own_database, f"source-{caller.project_id}", f"cluster-{caller.project_id}")
    async with own_database.transaction() as tx:
        await clusters.add_cluster(
            tx, cluster_id=made.cluster, project_id=caller.project_id, name="one", server="https://x.test",
            kubeconfig_sealed=b"sealed",
        )  # fmt: skip
        await cluster_watches.add_cluster_watch(tx, made.cluster)
        await store.add(
            tx,
            store.NewSource(
                id=made.source, project_id=caller.project_id, name="team", kind="oci", url="oci://x.test/team",
                credentials_sealed=None, ca="", sync_seconds=0,
            ),
        )  # fmt: skip
    await made.offer(1, 2, 3)
    return made


async def test_what_a_source_has_that_is_newer_is_in_lists_and_counted(place: Place):
    first, last = await place.pull(1), await place.pull(3)
    await place.install(first, 1, name="a")
    await place.install(last, 3, name="b")
    assert await place.listed() == [("a", "3.0.0"), ("b", "")]
    assert await place.listed(update_available=True) == [("a", "3.0.0")]
    assert await place.listed(update_available=False) == [("b", "")]
    async with place.database.autocommit() as connection:
        (counted,) = await metrics.read_statuses(connection)
    assert (counted.status, counted.releases, counted.updatable) == ("deployed", 2, 1)
    await place.offer(1, 2, 3, 4)
    assert await place.listed(update_available=True) == [("a", "4.0.0"), ("b", "4.0.0")]


@pytest.mark.parametrize(
    ("wanted", "told", "untold"),
    [
        (("name", "source", "update_available"), ("a", "team", "3.0.0"), ("a", "", "")),
        (("update_deprecated", "name", "source"), (False, "a", "team"), (False, "a", "")),
        (("source",), ("team",), ("",)),
        (("name", "revision"), ("a", 1), ("a", 1)),
    ],
)
async def test_any_choice_of_fields_has_what_is_known_of_the_source_if_it_may_be_told(
    place: Place, wanted: tuple[str, ...], told: tuple[Any, ...], untold: tuple[Any, ...]
):
    await place.install(await place.pull(1), 1, name="a")
    async with place.database.autocommit() as connection:
        for with_sources, expected in ((True, told), (False, untold)):
            rows = await list_rows(
                connection,
                wanted,
                project_id=place.caller.project_id,
                filters=ReleaseFilter(),
                sort=ReleaseSort("name"),
                limit=10,
                with_sources=with_sources,
            )
            assert [tuple(row) for row in rows] == [expected]


async def test_a_release_under_an_operation_has_the_update_of_the_chart_that_is_shown(place: Place):
    first, second = await place.pull(1), await place.pull(2)
    await place.install(first, 1)
    upgrade = {"action": "upgrade", "base_revision": 1, "revision": 2}
    await place.offer(1, 2)
    assert await place.listed() == [("web", "2.0.0")]
    row = await accept(place.database, place.operation(second, 2, **upgrade))
    assert await place.listed() == await place.listed(update_available=False) == [("web", "")]
    async with place.database.transaction() as tx:
        await tx.execute(text("UPDATE operations SET chart_id = '', chart_version = '1.0.0' WHERE id = :id"), vars(row))
    assert await place.listed() == [("web", "2.0.0")], "other values alone: it is the chart that the release has"


async def test_an_install_that_has_written_nothing_yet_has_the_update_of_its_chart(place: Place):
    await accept(place.database, place.operation(await place.pull(2), 2))
    assert await place.listed() == await place.listed(update_available=True) == [("web", "3.0.0")]


async def test_a_dropped_archive_leaves_its_source_and_gets_its_id_back(place: Place):
    first = await place.pull(1)
    await place.install(first, 1)
    second = await place.pull(2)
    await place.drop(besides=second)
    assert await place.listed() == [("web", "3.0.0")]
    async with place.database.transaction() as tx:
        await chart_origins.sweep(tx, limit=10)
    assert await place.known() == 2, "a release was made from the one, and the other is there"
    assert await place.pull(1) == first
    assert await place.pull(3) not in {first, second}


async def test_what_nothing_was_made_from_is_forgotten_with_its_archive(place: Place):
    first, second = await place.pull(1), await place.pull(2)
    await place.drop(besides=second)
    async with place.database.transaction() as tx:
        assert await chart_origins.sweep(tx, limit=10) == 1
    assert await place.known() == 1
    assert await place.pull(1) != first


async def test_what_is_newer_is_found_by_reading_each_version_a_few_times(place: Place):
    """With all of them pulled, and only an old one signed, in a project that takes verified charts only."""
    number, project = 300, place.caller.project_id
    given = {"source": place.source, "project": project, "number": number}
    read = text("SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables")
    async with place.database.transaction() as tx:
        for statement in (
            """INSERT INTO source_versions (source_id, name, version, order_key)
              SELECT :source, 'tools', i || '.0.0', lpad(i::text, 6, '0') || '~'
              FROM generate_series(1, CAST(:number AS int)) i""",
            """INSERT INTO chart_archives (digest, content, size)
              SELECT md5(i || :source), 'x', 1 FROM generate_series(1, CAST(:number AS int)) i""",
            """INSERT INTO charts (id, project_id, source_id, name, version, digest, description, icon_url, instruction,
                values_json, source, visible)
              SELECT i || :source, :project, :source, 'tools', i || '.0.0', md5(i || :source), '', '', '', '{}', 'x',
                true
              FROM generate_series(1, CAST(:number AS int)) i""",
            "INSERT INTO project_trust (project_id, verified_only, trusted) VALUES (:project, true, '{A1}')",
            """INSERT INTO chart_verifications (project_id, digest, kind, fingerprint, signing_key, signed_digest)
              VALUES (:project, md5('20' || :source), 'pgp', 'A1', 'A1', '')""",
        ):
            names = {name: value for name, value in given.items() if f":{name}" in statement}
            await tx.execute(text(statement), names)
        await chart_origins.renew(tx, place.source)
    async with place.database.autocommit() as connection:
        await connection.execute(text("ANALYZE"))
    for renewing in ("project", "source"):
        async with place.database.transaction() as tx:
            await tx.execute(text("UPDATE chart_origins SET newer_version = 'x'"))
            before = (await tx.execute(read)).scalar_one()
            if renewing == "project":
                await chart_origins.renew_all(tx, project)
            else:
                await chart_origins.renew(tx, place.source)
            assert (await tx.execute(read)).scalar_one() - before < 20 * number
            query = "SELECT newer_version, count(*) FROM chart_origins GROUP BY 1 ORDER BY 1"
            assert (await tx.execute(text(query))).all() == [("", number - 19), ("20.0.0", 19)]


async def test_where_a_chart_came_from_is_kept_as_long_as_something_is_made_of_it(place: Place):
    first, unused = await place.pull(1), await place.pull(2)
    await place.install(first, 1)
    project = place.caller.project_id
    async with place.database.transaction() as tx:
        await store.hold_all(tx, project)
        await chart_origins.keep_removed(tx, place.source)
        assert await store.remove(tx, place.source)

    async def origins() -> list[str]:
        async with place.database.autocommit() as connection:
            found = [await chart_origins.find_origin(connection, one, project_id=project) for one in (first, unused)]
            other = await chart_origins.find_origin(connection, first, project_id="another")
        assert other == chart_origins.ChartOrigin()
        assert all(bool(one.source) == (one.removed_at is not None) for one in found)
        return [one.source for one in found]

    async def sweep() -> int:
        async with place.database.transaction() as tx:
            return await chart_origins.sweep(tx, limit=10)

    assert await origins() == ["team", "team"]
    assert await place.listed() == [("web", "")]
    assert await place.listed(update_available=False) == await place.listed(source="team") == []
    assert await sweep() == 0, "it may just be ordered"
    for _ in range(2):
        async with place.database.transaction() as tx:
            await tx.execute(text("UPDATE removed_origins SET checked_at = checked_at - interval '2 days'"))
        await sweep()
        assert await origins() == ["team", ""]
    assert await sweep() == 0, "what was checked is not read again for a day"


async def test_a_revision_that_names_no_chart_has_that_of_the_last_one_with_the_same_version(place: Place):
    await place.install(await place.pull(1), 1)

    async def write(*rows: NewRevision) -> list[bool]:
        async with place.database.transaction() as tx:
            await release_index.apply_revisions(tx, place.cluster, rows, epoch=None)
            query = text("SELECT origin_chart_id <> '' FROM release_revisions WHERE name = 'web' ORDER BY revision")
            return list((await tx.execute(query)).scalars())

    assert await write(revision(2, 2), revision(3, 1), revision(4, 1, chart_name="other")) == [True, False, True, False]
    again = revision(3, 1, status="superseded", resource_version=99)
    assert await write(again) == [True, False, True, False]
    assert await write(revision(1, 1, "web2")) == [True, False, True, False]

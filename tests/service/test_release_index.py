"""Which news of a Secret applies to the release index, in whatever order it comes, on a real PostgreSQL."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import NotFound
from pilothouse.queue import Queue
from pilothouse.store import attempts, cluster_watches, clusters, newest_revisions, release_index, releases
from pilothouse.store.cluster_watches import Confirmation
from pilothouse.store.database import Database
from pilothouse.store.release_index import DeletedSecret, IndexSize, NewRevision, SeenSecret
from tests.support.operations import accept, new_install
from tests.support.tenants import add_project

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def cluster(database: Database, keys: MasterKeys) -> AsyncIterator[tuple[str, str]]:
    """Cluster and project id of a cluster that nobody watches."""
    caller, _, _ = await add_project(database, keys)
    cluster_id = await add_cluster(database, caller.project_id)
    yield cluster_id, caller.project_id
    async with database.transaction() as tx:
        await clusters.remove_cluster(tx, cluster_id, project_id=caller.project_id)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> MasterKeys:
    return MasterKeys.load_or_create(tmp_path_factory.mktemp("keys") / "master.key")


async def add_cluster(database: Database, project_id: str) -> str:
    cluster_id = str(uuid.uuid4())
    async with database.transaction() as tx:
        await clusters.add_cluster(
            tx,
            cluster_id=cluster_id,
            project_id=project_id,
            name=f"c-{cluster_id}",
            server="https://x.test",
            kubeconfig_sealed=b"sealed",
        )
        await cluster_watches.add_cluster_watch(tx, cluster_id)
    return cluster_id


def revision(name: str, number: int, version: int, *, status: str = "deployed", namespace: str = "shop") -> NewRevision:
    return NewRevision(
        namespace=namespace,
        secret=f"sh.helm.release.v1.{name}.v{number}",
        name=name,
        revision=number,
        resource_version=version,
        problem="",
        uid=f"uid-{name}-{number}",
        status=status,
        description=f"at {version}",
        chart_name="web",
        chart_version="1.0.0",
        first_deployed=LONG_AGO,
        last_deployed=LONG_AGO,
        deleted_at=None,
        values_sealed=b"sealed",
        values_text_size=6,
        app_version="1.0",
        manager="",
        operation_id="",
    )


async def apply(database: Database, cluster_id: str, *rows: NewRevision, epoch: int | None = 0) -> None:
    async with database.transaction() as tx:
        await release_index.apply_revisions(tx, cluster_id, rows, epoch=epoch)


async def shown(database: Database, cluster: tuple[str, str], name: str = "web") -> list[tuple[int, str, str]]:
    """Return number, status and description of the release's revisions, newest first."""
    async with database.autocommit() as connection:
        found = await releases.find_release(
            connection, cluster[0], project_id=cluster[1], namespace="shop", name=name, revisions=100
        )
    assert found is not None
    return [(one.revision, one.status, one.description) for one in found.revisions]


async def test_only_newer_news_applies(database: Database, cluster: tuple[str, str]):
    await apply(database, cluster[0], revision("web", 1, 100))
    await apply(database, cluster[0], revision("web", 1, 99, status="pending-install"))
    assert await shown(database, cluster) == [(1, "deployed", "at 100")]
    await apply(database, cluster[0], revision("web", 1, 1000, status="superseded"), revision("web", 2, 999))
    assert await shown(database, cluster) == [(2, "deployed", "at 999"), (1, "superseded", "at 1000")]


@pytest.mark.parametrize("rows", [1, 2])
async def test_a_cluster_that_is_removed_meanwhile_is_not_found(
    database: Database, cluster: tuple[str, str], rows: int
):
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%revisions%'")
    async with database.transaction() as tx:
        await clusters.remove_cluster(tx, cluster[0], project_id=cluster[1])
        applying = asyncio.create_task(
            apply(database, cluster[0], *(revision("web", number, number) for number in range(1, rows + 1)))
        )
        async with asyncio.timeout(20), database.autocommit() as other:
            while not (await other.execute(waiting)).scalar_one():  # noqa: ASYNC110 - PostgreSQL waits
                await asyncio.sleep(0.01)
    with pytest.raises(NotFound, match="removed meanwhile"):
        await applying


async def test_a_page_leaves_the_same_rows_as_one_revision_after_the_other(
    database: Database, cluster: tuple[str, str]
):
    """Marks of being exposed may differ: one that is no longer true does no harm."""
    odd = replace(revision("odd", 2**33, 2**62), description="ü\"\\'\n{}", values_sealed=None, manager="Flux \u2028")
    undated = replace(revision("odd", 1, 7), first_deployed=None, last_deployed=None, values_sealed=bytes(range(256)))
    pages = [
        [
            *(revision("web", number, 10 + number, status="superseded") for number in (12, 2, 1, 3)),
            replace(revision("web", 4, 14), chart_version="2.0.0"),
            *(odd, undated, replace(revision("web", 13, 15), name="", revision=0, problem="is cut off")),
        ],
        [
            *(revision("web", 1, 5, status="failed"), replace(revision("web", 2, 30), uid="made-anew")),
            *(revision("web", 5, 31), revision("web", 5, 33, status="superseded"), revision("web", 5, 32)),
            *(
                revision("web", 6, 34),
                revision("web", 6, 34, status="failed"),
                revision("web", 1, 1, namespace="other"),
            ),
        ],
    ]
    at_once, one_by_one = cluster[0], await add_cluster(database, cluster[1])
    written = {}
    for target, size in ((at_once, 100), (one_by_one, 1)):
        new = new_install(cluster[1], "user", cluster_id=target, namespace="shop", chart_id="its-chart", revision=1)
        label = (await accept(database, new)).id
        for page in pages:
            rows = sorted(page, key=lambda row: row.revision) if size == 1 else page
            named = [replace(row, operation_id=label if row.name == "web" else "") for row in rows]
            for start in range(0, len(named), size):
                await apply(database, target, *named[start : start + size])
        query = text("""
            SELECT to_jsonb(r) - 'cluster_id' - 'origin_operation_id' - 'exposed', origin_operation_id = :label
            FROM release_revisions r WHERE cluster_id = :id ORDER BY namespace, secret""")
        async with database.autocommit() as connection:
            found = await connection.execute(query, {"id": target, "label": label})
            written[target] = [(row[0], row[1]) for row in found]
    assert written[at_once] == written[one_by_one]
    origins = {row["secret"].rpartition(".")[2]: (row["origin_chart_id"], own) for row, own in written[at_once]
               if row["name"] == "web" and row["namespace"] == "shop"}  # fmt: skip
    assert origins == {
        "v1": ("its-chart", True),
        **dict.fromkeys(("v2", "v3", "v5", "v6", "v12"), ("its-chart", False)),
        "v4": ("", False),
    }
    async with database.transaction() as tx:
        await clusters.remove_cluster(tx, one_by_one, project_id=cluster[1])


@pytest.mark.parametrize("epoch", [None, 0])
async def test_what_lies_behind_a_wall_is_not_written(database: Database, cluster: tuple[str, str], epoch: int | None):
    """Whoever read it before the wall was set, and writes it after all has been listed again."""
    async with database.transaction() as tx:
        wall = clusters.WallRow(["inside", "within"], "tenant", [])
        assert await clusters.set_wall(tx, cluster[0], project_id=cluster[1], wall=wall)
    await apply(database, cluster[0], revision("web", 1, 1), epoch=epoch)
    await apply(database, cluster[0], revision("web", 1, 1, namespace="within"), epoch=epoch)
    async with database.autocommit() as connection:
        assert await release_index.measure(connection, cluster[0]) == IndexSize(rows=1, values_bytes=6)
    assert await shown(database, cluster) == []


async def test_a_deleted_secret_is_not_revived_by_late_news(database: Database, cluster: tuple[str, str]):
    secret = revision("web", 1, 1).secret
    async with database.transaction() as tx:
        await release_index.mark_deleted(tx, cluster[0], [DeletedSecret("shop", secret, 20)], epoch=0)
    await apply(database, cluster[0], revision("web", 1, 19))
    assert await shown(database, cluster) == []
    await apply(database, cluster[0], revision("web", 1, 21))
    assert await shown(database, cluster) == [(1, "deployed", "at 21")]
    async with database.transaction() as tx:
        await release_index.mark_deleted(tx, cluster[0], [DeletedSecret("shop", secret, 20)], epoch=0)
    assert await shown(database, cluster) == [(1, "deployed", "at 21")]


async def test_a_list_buries_what_it_lacks_but_nothing_newer(database: Database, cluster: tuple[str, str]):
    rows = [revision("web", 1, 10), revision("web", 2, 11), revision("web", 3, 13)]
    await apply(database, cluster[0], *rows)
    async with database.transaction() as tx:
        kept = [("shop", rows[0].secret)]
        deleted = await release_index.mark_missing_deleted(tx, cluster[0], epoch=0, resource_version=12, kept=kept)
    assert deleted == 1
    assert [one[0] for one in await shown(database, cluster)] == [3, 1]
    await apply(database, cluster[0], rows[1])
    assert [one[0] for one in await shown(database, cluster)] == [3, 1]


async def test_a_list_of_one_release_buries_nothing_of_others(database: Database, cluster: tuple[str, str]):
    await apply(database, cluster[0], revision("web", 1, 10), revision("other", 1, 11))
    async with database.transaction() as tx:
        await release_index.mark_missing_deleted(
            tx, cluster[0], resource_version=12, kept=[], namespace="shop", name="web"
        )
    assert await shown(database, cluster) == []
    assert await shown(database, cluster, "other") != []


async def test_after_a_restored_backup_lower_versions_apply(database: Database, cluster: tuple[str, str]):
    await apply(database, cluster[0], revision("web", 1, 1000), revision("gone", 1, 1001))
    async with database.transaction() as tx:
        await cluster_watches.begin_epoch(tx, cluster[0], after=0)
        seen = [SeenSecret("shop", revision("web", 1, 1).secret, 50)]
        unknown = await release_index.list_unknown(tx, cluster[0], seen, epoch=1)
    assert unknown == {("shop", revision("web", 1, 1).secret)}
    # Until the list is complete, nothing has disappeared.
    assert await shown(database, cluster, "gone") == [(1, "deployed", "at 1001")]
    await apply(database, cluster[0], revision("web", 1, 50), epoch=1)
    await apply(database, cluster[0], revision("web", 1, 1002), revision("late", 1, 1003), epoch=0)
    async with database.transaction() as tx:
        await release_index.mark_missing_deleted(tx, cluster[0], epoch=1, resource_version=60, kept=unknown)
    assert await shown(database, cluster) == [(1, "deployed", "at 50")]
    assert await shown(database, cluster, "gone") == []
    assert await shown(database, cluster, "late") == []


async def test_what_is_known_is_not_decoded_again(database: Database, cluster: tuple[str, str]):
    await apply(database, cluster[0], revision("web", 1, 10), revision("web", 2, 20))
    seen = [SeenSecret("shop", revision("web", number, 0).secret, version) for number, version in ((1, 10), (2, 21))]
    async with database.autocommit() as connection:
        unknown = await release_index.list_unknown(connection, cluster[0], seen, epoch=0)
    assert unknown == {("shop", revision("web", 2, 0).secret)}


async def test_an_unreadable_secret_is_named_and_not_shown(database: Database, cluster: tuple[str, str]):
    await apply(database, cluster[0], revision("web", 1, 10))
    await apply(database, cluster[0], replace(revision("web", 2, 11), name="", revision=0, problem="is cut off"))
    assert await shown(database, cluster) == [(1, "deployed", "at 10")]
    async with database.autocommit() as connection:
        unreadable = await releases.find_unreadable(connection, cluster[0], limit=10)
    assert unreadable.count == 1
    assert [(one.secret, one.problem) for one in unreadable.first] == [(revision("web", 2, 0).secret, "is cut off")]
    await apply(database, cluster[0], revision("web", 2, 12))
    async with database.autocommit() as connection:
        assert (await releases.find_unreadable(connection, cluster[0], limit=10)).count == 0
    assert [one[0] for one in await shown(database, cluster)] == [2, 1]


async def test_a_large_cluster_of_which_the_planner_knows_nothing_is_listed_in_time(own_database: Database):
    """Its rows came just now, and were never analysed: what compares each with each exceeds every limit."""
    caller, _, _ = await add_project(own_database, MasterKeys({bytes(8): bytes(32)}))
    cluster = await add_cluster(own_database, caller.project_id)
    fill = text("""
        INSERT INTO release_revisions (cluster_id, namespace, secret, name, revision, epoch, resource_version, uid,
          status, description, chart_name, chart_version)
        SELECT :cluster, 'shop', 'sh.helm.release.v1.r' || release || '.v' || number, 'r' || release, number, 0, 1, '',
          CASE number WHEN 10 THEN 'deployed' ELSE 'superseded' END, '', 'web', '1'
        FROM generate_series(1, 2000) release, generate_series(1, 10) number""")
    secrets = [("shop", f"sh.helm.release.v1.r{one // 10 + 1}.v{one % 10 + 1}") for one in range(20_000)]
    async with own_database.transaction() as tx:
        await tx.execute(fill, {"cluster": cluster})
        await tx.execute(text("SET LOCAL statement_timeout = '3s'"))
        await newest_revisions.expose(tx, cluster, [secrets[place] for place in range(100) if place % 10 != 9])
        deleted = await release_index.mark_missing_deleted(tx, cluster, epoch=0, resource_version=5, kept=secrets[1:])
    assert deleted == 1


async def test_a_confirmation_counts_from_when_it_came_and_in_its_epoch_only(
    database: Database, cluster: tuple[str, str]
):
    async def confirm(version: int, age: float, epoch: int = 0) -> tuple[int, str, float]:
        async with database.autocommit() as connection:
            await cluster_watches.note_error(connection, cluster[0], "silent")
            await cluster_watches.note_confirmations(connection, [Confirmation(cluster[0], epoch, version, age)])
            query = text("""SELECT resource_version, error, extract(epoch FROM clock_timestamp() - seen_at)
                FROM cluster_watches WHERE cluster_id = :id""")
            (found,) = await connection.execute(query, {"id": cluster[0]})
        return found[0], found[1], float(found[2] or 0)

    assert await confirm(50, age=5, epoch=1) == (0, "silent", 0)
    version, error, age = await confirm(50, age=50)
    assert (version, error, 50 <= age < 60) == (50, "", True)
    version, _, age = await confirm(60, age=5)
    assert (version, 5 <= age < 15) == (60, True)
    version, _, age = await confirm(55, age=500)
    assert (version, 5 <= age < 15) == (60, True), "it never goes back"


async def test_a_removed_cluster_takes_its_rows_along(database: Database, cluster: tuple[str, str]):
    await apply(database, cluster[0], revision("web", 1, 10))
    async with database.transaction() as tx:
        await clusters.remove_cluster(tx, cluster[0], project_id=cluster[1])
    await apply(database, cluster[0], revision("web", 2, 11))
    with psycopg.connect(database.dsn()) as connection:
        row = connection.execute("SELECT count(*) FROM release_revisions WHERE cluster_id = %s", [cluster[0]])
        assert row.fetchone() == (0,)


@dataclass(frozen=True)
class Moment:
    """One change of one Secret, at one resourceVersion."""

    number: int
    version: int
    gone: bool


@st.composite
def histories(draw: st.DrawFn) -> list[Moment]:
    """Return what really happened to three Secrets, in order."""
    alive: set[int] = set()
    moments = []
    for version in range(8, 8 + draw(st.integers(1, 8))):  # over 9: versions compare as numbers, not as texts
        number = draw(st.integers(1, 3))
        gone = number in alive and draw(st.booleans())
        (alive.discard if gone else alive.add)(number)
        moments.append(Moment(number, version, gone))
    return moments


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), lists=st.lists(st.integers(7, 16), max_size=2), seed=st.integers(0, 1000))
async def test_any_order_of_news_and_lists_ends_in_the_truth(
    database: Database, keys: MasterKeys, history: list[Moment], lists: list[int], seed: int
):
    caller, _, _ = await add_project(database, keys)
    cluster = (await add_cluster(database, caller.project_id), caller.project_id)
    # Two observers and a worker tell everything once or twice, late or early; lists come between, as late as they like.
    news: list[Moment | int] = [*history, *history[::2], *lists]
    random.Random(seed).shuffle(news)  # noqa: S311 - reproducible, no secret
    for one in news:
        async with database.transaction() as tx:
            if isinstance(one, int):
                present = {moment.number: moment for moment in history if moment.version <= one}
                kept = [moment for moment in present.values() if not moment.gone]
                rows = [revision("web", moment.number, moment.version) for moment in kept]
                await release_index.apply_revisions(tx, cluster[0], rows, epoch=0)
                await release_index.mark_missing_deleted(
                    tx, cluster[0], epoch=0, resource_version=one, kept=[("shop", row.secret) for row in rows]
                )
            elif one.gone:
                dead = DeletedSecret("shop", revision("web", one.number, 0).secret, one.version)
                await release_index.mark_deleted(tx, cluster[0], [dead], epoch=0)
            else:
                await release_index.apply_revisions(tx, cluster[0], [revision("web", one.number, one.version)], epoch=0)
    last = {moment.number: moment for moment in history}
    expected = [(n, "deployed", f"at {m.version}") for n, m in sorted(last.items(), reverse=True) if not m.gone]
    assert await shown(database, cluster) == expected
    async with database.transaction() as tx:
        await clusters.remove_cluster(tx, cluster[0], project_id=cluster[1])


async def test_an_observer_and_a_worker_bury_the_same_release_without_waiting_in_a_circle(
    database: Database, cluster: tuple[str, str]
):
    await apply(
        database, cluster[0], *(revision("web", number, number, status="superseded") for number in range(2, 12))
    )
    last = [DeletedSecret("shop", f"sh.helm.release.v1.web.v{number}", 100 + number) for number in range(2, 12)]
    async with database.transaction() as observer:
        await release_index.mark_deleted(observer, cluster[0], last[:1], epoch=0)
        async with database.autocommit() as worker:
            burying = asyncio.create_task(
                release_index.mark_missing_deleted(
                    worker, cluster[0], resource_version=200, kept=[], namespace="shop", name="web"
                )
            )
            await asyncio.sleep(0.5)
            await release_index.mark_deleted(observer, cluster[0], last[1:], epoch=0)
            await observer.commit()
            await burying


async def test_what_an_operation_wrote_is_its_own_though_another_took_the_number_before_it(
    database: Database, cluster: tuple[str, str]
):
    cluster_id, project_id = cluster
    with psycopg.connect(database.dsn()) as connection:
        connection.execute("DELETE FROM operations")  # of other tests: this one's is to be taken
    new = new_install(project_id, "user", cluster_id=cluster_id, namespace="shop", chart_id="its-chart")
    await accept(database, new)
    row = await Queue(database, poll_seconds=1.0).take(worker="one", lease_seconds=60)
    assert row is not None
    async with database.transaction() as tx:
        assert await attempts.begin(tx, row.id, attempt=row.attempt, base=None, deployed=None, revision=1)
        seen = replace(revision("web", 2, 50), operation_id=row.id)
        assert await attempts.finish(
            tx,
            row.id,
            attempt=row.attempt,
            state="succeeded",
            status_description="Install complete",
            revision=2,
            wrote_revision=True,
            seen=(cluster_id, seen),
        )
    with psycopg.connect(database.dsn()) as connection:
        found = connection.execute(
            "SELECT revision, origin_chart_id FROM release_revisions WHERE cluster_id = %s", [cluster_id]
        ).fetchall()
    assert found == [(2, "its-chart")]

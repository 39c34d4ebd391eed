"""Charts and their archives on a real PostgreSQL: the quota, what keeps an archive, and what lets it go."""

import asyncio
import hashlib
import io
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.engine.pool import EnginePool
from pilothouse.errors import AlreadyExists, ArchiveGone, InvalidRequest, NotAuthenticated, NotFound, QuotaExceeded
from pilothouse.http.errors import error_response
from pilothouse.services.charts.archives import Charts, Upload
from pilothouse.services.charts.checks import ChartChecks
from pilothouse.services.charts.signatures import Signatures
from pilothouse.services.charts.trust import Trust
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.settings import ChartLimits, EngineSettings, WorkerSettings
from pilothouse.store import access_keys, archives, operations
from pilothouse.store.charts import ChartRow
from pilothouse.store.database import Database
from pilothouse.store.operations import OperationRow
from pilothouse.worker.maintenance.archives import Archives, collect_archives
from tests.support.charts import build_chart, config_map_chart
from tests.support.operations import accept as stand
from tests.support.operations import new_install
from tests.support.tenants import add_project

REQUEST = "0" * 32
Uploader = Callable[..., Awaitable[ChartRow]]


@pytest.fixture
async def caller(database: Database, tmp_path: Path) -> Caller:
    return (await add_project(database, MasterKeys.load_or_create(tmp_path / "master.key")))[0]


@pytest.fixture
def charts(database: Database, tmp_path: Path) -> Charts:
    return make_charts(database, tmp_path, quota=5)


def make_charts(
    database: Database, folder: Path, *, quota: int, quota_bytes: int = 1 << 30, standing: Standing | None = None
) -> Charts:
    """Without lint: the engine is not started."""
    settings = EngineSettings.model_validate({})
    engine = EnginePool(settings, state_dir=folder)
    checks = ChartChecks(engine, limits=ChartLimits.model_validate({}), engine_settings=settings)
    standing = standing or Standing(database, again_seconds=0.2)
    trust = Trust(database, Signatures(engine, settings))
    return Charts(database, checks, trust, standing, quota=quota, quota_bytes=quota_bytes, engine_settings=settings)


def upload_of(archive: bytes, *, override: bool = False, visible: bool | None = None) -> Upload:
    return Upload(archive=io.BytesIO(archive), override=override, skip_lint=True, visible=visible)


async def put(charts: Charts, caller: Caller, archive: bytes, *, override: bool = False) -> ChartRow:
    return await charts.upload(caller, upload_of(archive, override=override), request_id=REQUEST)


async def accept(database: Database, caller: Caller, chart: ChartRow, *, name: str = "web") -> OperationRow:
    new = new_install(
        caller.project_id,
        caller.user_id,
        cluster_id=uuid.uuid4().hex,
        release_name=name,
        chart_digest=chart.digest,
        chart_id=chart.id,
        chart_name=chart.name,
        chart_version=chart.version,
    )
    return await stand(database, new)


async def end(database: Database, row: OperationRow) -> None:
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("UPDATE operations SET state = 'failed' WHERE id = %s", [row.id])


async def collect(database: Database) -> None:
    """Twice: the first run marks what is unused, the second one deletes it."""
    for _ in range(2):
        async with database.transaction() as tx:
            await archives.collect_archives(tx, after_seconds=0.0)


async def read(database: Database, digest: str) -> bytes | None:
    async with database.transaction() as tx:
        return await archives.read_archive(tx, digest)


async def test_the_quota_counts_versions_exactly_even_when_uploads_race(
    database: Database, caller: Caller, tmp_path: Path
):
    charts = make_charts(database, tmp_path, quota=2)
    uploads = [put(charts, caller, config_map_chart("counted", f"1.0.{n}")) for n in range(6)]
    done = await asyncio.gather(*uploads, return_exceptions=True)
    refused = [one for one in done if isinstance(one, QuotaExceeded)]
    made = [one for one in done if isinstance(one, ChartRow)]
    assert (len(made), len(refused)) == (2, 4)
    quota = await charts.quota(caller, caller.project_id)
    assert (quota.limit, quota.used) == (2, 2)
    replaced = await put(charts, caller, config_map_chart("counted", made[0].version, text="again"), override=True)
    assert replaced.id == made[0].id
    await charts.delete(caller, made[0].id, request_id=REQUEST)
    await put(charts, caller, config_map_chart("counted", "2.0.0"))
    assert "Insufficient chart quota" in str(refused[0])
    assert error_response(refused[0]).status_code == 400


async def test_of_uploads_of_one_version_that_race_one_wins(database: Database, caller: Caller, charts: Charts):
    uploads = [put(charts, caller, config_map_chart("raced", text=str(n))) for n in range(5)]
    done = await asyncio.gather(*uploads, return_exceptions=True)
    assert [type(one) for one in done].count(ChartRow) == 1
    assert [type(one) for one in done].count(AlreadyExists) == 4
    async with charts.listed(caller) as page:
        (left,) = page.charts
    assert await read(database, left.digest) is not None


async def test_an_update_replaces_content_and_version_and_keeps_the_id(
    database: Database, caller: Caller, charts: Charts
):
    first = await put(charts, caller, config_map_chart("updated", "1.0.0"))
    other = await put(charts, caller, config_map_chart("updated", "3.0.0"))
    archive = build_chart("updated", "2.0.0", values={"b": 2}, metadata={"description": "new"})
    changed = await charts.update(caller, first.id, upload_of(archive, visible=False), request_id=REQUEST)
    assert (changed.id, changed.version, changed.values_json) == (first.id, "2.0.0", '{"b":2}')
    assert (changed.description, changed.visible, changed.created_at) == ("new", False, first.created_at)
    assert changed.updated_at > first.updated_at
    assert await read(database, changed.digest) == archive
    again = await charts.update(caller, first.id, upload_of(archive), request_id=REQUEST)
    assert (again.digest, again.visible) == (changed.digest, False)

    with pytest.raises(InvalidRequest, match="an update keeps the name"):
        await charts.update(caller, first.id, upload_of(config_map_chart("renamed")), request_id=REQUEST)
    with pytest.raises(AlreadyExists, match=other.id):
        await charts.update(caller, first.id, upload_of(config_map_chart("updated", "3.0.0")), request_id=REQUEST)
    with pytest.raises(NotFound):
        await charts.update(caller, "unknown", upload_of(archive), request_id=REQUEST)
    assert await charts.show(caller, first.id) == again


async def test_every_write_is_in_the_audit_and_no_refused_one(database: Database, caller: Caller, charts: Charts):
    archive = config_map_chart("audited")
    row = await put(charts, caller, archive)
    with pytest.raises(AlreadyExists):
        await put(charts, caller, archive)
    await charts.update(caller, row.id, upload_of(archive), request_id=REQUEST)
    await charts.delete(caller, row.id, request_id=REQUEST)
    with pytest.raises(NotFound):
        await charts.delete(caller, row.id, request_id=REQUEST)
    with psycopg.connect(database.dsn()) as connection:
        found = connection.execute(
            "SELECT action, target FROM audit WHERE project_id = %s ORDER BY id", [caller.project_id]
        ).fetchall()
    assert found == [(f"cce:chart:{verb}", row.id) for verb in ("upload", "update", "delete")]


async def test_an_archive_of_any_size_comes_back_byte_for_byte(database: Database):
    piece = archives.PIECE_BYTES
    for size in (1, piece - 1, piece, piece + 1, 3 * piece + 17):
        content = hashlib.shake_256(str(size).encode()).digest(size)
        digest = hashlib.sha256(content).hexdigest()
        async with database.transaction() as tx:
            await archives.add_archive(tx, digest=digest, content=io.BytesIO(content), size=size)
            assert await archives.read_archive(tx, digest) == content
            assert await archives.find_size(tx, digest) == size
    assert await read(database, "0" * 63) is None


async def test_an_archive_goes_when_its_last_chart_is_gone(database: Database, caller: Caller, charts: Charts):
    archive = config_map_chart("shared", "1.0.0", text=uuid.uuid4().hex)
    mine = await put(charts, caller, archive)
    await collect(database)
    assert await read(database, mine.digest) == archive
    await charts.delete(caller, mine.id, request_id=REQUEST)
    async with database.transaction() as tx:
        await archives.collect_archives(tx, after_seconds=3600)
    assert await read(database, mine.digest) == archive, "a request that has just found the chart may still read it"
    await collect(database)
    assert await read(database, mine.digest) is None


async def test_an_operation_keeps_the_archive_it_was_accepted_with_until_it_ends(
    database: Database, caller: Caller, charts: Charts
):
    old = config_map_chart("pinned", "1.0.0", text=uuid.uuid4().hex)
    first = await put(charts, caller, old)
    running = await accept(database, caller, first)
    second = await put(charts, caller, config_map_chart("pinned", "1.0.0", text=uuid.uuid4().hex), override=True)
    waiting = await accept(database, caller, second, name="other")
    await charts.delete(caller, second.id, request_id=REQUEST)
    await collect(database)
    assert (running.pinned_digest, waiting.pinned_digest) == (first.digest, second.digest)
    assert await read(database, first.digest) == old
    assert await read(database, second.digest) is not None

    await end(database, running)
    await collect(database)
    assert await read(database, first.digest) is None
    assert await read(database, second.digest) is not None
    async with database.transaction() as tx:
        ended = await operations.find_operation(tx, running.id)
    assert ended is not None
    assert (ended.chart_digest, ended.pinned_digest) == (first.digest, None)


async def test_an_archive_that_is_uploaded_again_before_it_is_deleted_stays(
    database: Database, caller: Caller, charts: Charts
):
    archive = config_map_chart("again", "1.0.0", text=uuid.uuid4().hex)
    row = await put(charts, caller, archive)
    await charts.delete(caller, row.id, request_id=REQUEST)
    async with database.transaction() as tx:
        await archives.collect_archives(tx, after_seconds=3600)
    again = await put(charts, caller, archive)
    await charts.delete(caller, again.id, request_id=REQUEST)
    async with database.transaction() as tx:
        await archives.collect_archives(tx, after_seconds=0.0)  # takes what other tests left
    assert await read(database, row.digest) == archive, "it counts as unused from now on"


async def test_an_archive_that_an_upload_is_just_using_is_not_marked(
    database: Database, caller: Caller, charts: Charts
):
    row = await put(charts, caller, config_map_chart("just-used", "1.0.0", text=uuid.uuid4().hex))
    with psycopg.connect(database.dsn()) as connection:
        connection.execute("CREATE TEMP TABLE kept AS SELECT * FROM charts WHERE id = %s", [row.id])
        connection.execute("DELETE FROM charts WHERE id = %s", [row.id])
        connection.commit()
        connection.execute("UPDATE chart_archives SET unused_since = NULL WHERE digest = %s", [row.digest])
        connection.execute("INSERT INTO charts SELECT * FROM kept")
        async with database.transaction() as tx:
            collecting = asyncio.create_task(archives.collect_archives(tx, after_seconds=3600))
            await asyncio.sleep(0.3)
            connection.commit()
            await collecting
        marked = connection.execute("SELECT unused_since FROM chart_archives WHERE digest = %s", [row.digest])
        assert marked.fetchone() == (None,)


async def test_a_deletion_and_an_upload_of_the_same_archive_never_leave_a_chart_without_one(
    database: Database, caller: Caller, charts: Charts
):
    archive = config_map_chart("fought-over", "1.0.0", text=uuid.uuid4().hex)
    stop = asyncio.Event()

    async def collect_all_the_time() -> None:
        while not stop.is_set():
            async with database.transaction() as tx:
                await archives.collect_archives(tx, after_seconds=0.0)

    collectors = [asyncio.create_task(collect_all_the_time()) for _ in range(2)]
    try:
        for _ in range(40):
            row = await put(charts, caller, archive)
            assert await read(database, row.digest) == archive
            await charts.delete(caller, row.id, request_id=REQUEST)
    finally:
        stop.set()
        await asyncio.gather(*collectors)


async def test_an_upload_waits_for_a_deletion_of_its_archive_under_way(
    database: Database, caller: Caller, charts: Charts
):
    archive = config_map_chart("waited-for", "1.0.0", text=uuid.uuid4().hex)
    row = await put(charts, caller, archive)
    await charts.delete(caller, row.id, request_id=REQUEST)
    async with database.transaction() as tx:
        await archives.collect_archives(tx, after_seconds=0.0)
        # later in the same transaction it is old enough
        assert await archives.collect_archives(tx, after_seconds=0.0) >= 1
        uploading = asyncio.create_task(put(charts, caller, archive))
        done, _ = await asyncio.wait([uploading], timeout=0.3)
        assert not done
    again = await uploading
    assert await read(database, again.digest) == archive


async def test_an_order_for_a_chart_whose_archive_is_gone_is_refused_and_not_stored(
    database: Database, caller: Caller, charts: Charts
):
    row = await put(charts, caller, config_map_chart("too-late", "1.0.0", text=uuid.uuid4().hex))
    await charts.delete(caller, row.id, request_id=REQUEST)
    await collect(database)
    with pytest.raises(ArchiveGone, match="was deleted while this request ran"):
        await accept(database, caller, row)


async def test_the_worker_collects_by_itself(database: Database, caller: Caller, charts: Charts):
    row = await put(charts, caller, config_map_chart("swept", "1.0.0", text=uuid.uuid4().hex))
    await charts.delete(caller, row.id, request_id=REQUEST)
    settings = WorkerSettings.model_validate({"collect_seconds": 0.05, "unused_archive_seconds": 0.0})
    collecting = asyncio.create_task(collect_archives(database, settings))
    try:
        async with asyncio.timeout(20):
            while True:
                if await read(database, row.digest) is None:
                    break
                await asyncio.sleep(0.05)
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)


async def test_a_chart_deleted_while_it_is_downloaded_is_sent_whole(database: Database, caller: Caller, charts: Charts):
    noise = hashlib.shake_256(uuid.uuid4().bytes).digest(3 * archives.PIECE_BYTES)
    archive = build_chart("sent", files={"noise": noise})
    row = await put(charts, caller, archive)
    download = await charts.download(caller, row.id)
    received = [await anext(download.pieces)]
    await charts.delete(caller, row.id, request_id=REQUEST)
    async with database.transaction() as tx:
        await archives.collect_archives(tx, after_seconds=3600)
    received += [piece async for piece in download.pieces]
    assert b"".join(received) == archive
    assert download.size == len(archive)


async def test_a_download_that_is_taken_slowly_ends_with_the_key_that_asked_for_it(
    database: Database, caller: Caller, charts: Charts
):
    noise = hashlib.shake_256(uuid.uuid4().bytes).digest(3 * archives.PIECE_BYTES)
    row = await put(charts, caller, build_chart("slow", files={"noise": noise}))
    download = await charts.download(caller, row.id)
    await anext(download.pieces)
    assert caller.proof is not None
    async with database.transaction() as tx:
        await access_keys.set_enabled(tx, caller.proof.id, enabled=False)
    await asyncio.sleep(0.3)
    with pytest.raises(NotAuthenticated):
        await anext(download.pieces)


async def test_a_worker_keeps_the_archives_at_hand_that_it_used_last(
    charts: Charts, caller: Caller, database: Database
):
    chart = await put(charts, caller, build_chart("kept", "1.0.0"))
    at_hand = Archives(database)
    archive = await at_hand.read(chart.digest)
    assert archive is not None
    assert hashlib.sha256(archive).hexdigest() == chart.digest
    assert await at_hand.read("e" * 64) is None
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("DELETE FROM charts WHERE id = %s", [chart.id])
        connection.execute("DELETE FROM chart_archives WHERE digest = %s", [chart.digest])
    assert await at_hand.read(chart.digest) == archive
    assert await Archives(database).read(chart.digest) is None


async def test_bytes_of_a_replaced_archive_count_until_it_is_collected(
    database: Database, caller: Caller, tmp_path: Path
):
    first, second, third = (config_map_chart("sized", text=str(number)) for number in range(3))
    room = 2 * max(map(len, (first, second, third)))
    charts = make_charts(database, tmp_path, quota=5, quota_bytes=room)
    await put(charts, caller, first)
    await put(charts, caller, second, override=True)
    await put(charts, caller, second, override=True)
    with pytest.raises(QuotaExceeded, match=f"may have {room}; delete charts, or wait"):
        await put(charts, caller, third, override=True)
    async with database.transaction() as tx:
        await archives.collect_archives(tx, after_seconds=0.0)
        await archives.collect_archives(tx, after_seconds=0.0)
    row = await put(charts, caller, third, override=True)
    with pytest.raises(QuotaExceeded):
        await charts.update(caller, row.id, upload_of(first), request_id=REQUEST)


async def test_uploads_at_the_same_moment_do_not_go_over_the_bytes_together(
    database: Database, caller: Caller, tmp_path: Path
):
    made = [config_map_chart(f"race-{number}") for number in range(6)]
    charts = make_charts(database, tmp_path, quota=100, quota_bytes=2 * max(map(len, made)))
    done = await asyncio.gather(*(put(charts, caller, one) for one in made), return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["ChartRow"] * 2 + ["QuotaExceeded"] * 4


async def test_changes_that_wait_for_each_other_leave_the_connections_to_others(
    database: Database, tmp_path: Path, charts: Charts
):
    """Three projects change as many charts at once as the process has connections, and somebody holds them up."""
    keys = MasterKeys.load_or_create(tmp_path / "master.key")
    callers = [(await add_project(database, keys))[0] for _ in range(3)]
    with psycopg.connect(database.dsn()) as connection:
        for caller in callers:
            lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
            connection.execute(lock, [f"charts/{caller.project_id}"])
        changes = [
            asyncio.create_task(charts.delete(caller, str(uuid.uuid4()), request_id=REQUEST))
            for caller in callers
            for _ in range(16)
        ]
        await asyncio.sleep(0.5)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        (found,) = connection.execute(waiting).fetchall()
        async with asyncio.timeout(2), charts.listed(callers[0]):
            pass
    assert found[0] <= len(callers)
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert {type(one) for one in outcomes} == {NotFound}

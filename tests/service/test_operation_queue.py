"""Accepted operations, their leases and their fence, on a real PostgreSQL."""

import asyncio
import io
import threading
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import AlreadyExists
from pilothouse.queue import Queue
from pilothouse.services.identity.bootstrap import Identity
from pilothouse.settings import WorkerSettings
from pilothouse.store import archives, attempts, operations
from pilothouse.store.database import Database
from pilothouse.store.leases import LeaseConnection
from pilothouse.store.migration import migrate, newest_revision
from pilothouse.store.operations import OperationRow
from pilothouse.store.tables import metadata
from pilothouse.worker.lease import Lease
from tests.support.operations import accept as stand
from tests.support.operations import new_install

DIGEST = "0" * 64


@pytest.fixture
async def owner(database: Database, tmp_path: Path) -> tuple[str, str]:
    """Project and user ids; the queue is empty."""
    keys = MasterKeys.load_or_create(tmp_path / "master.key")
    await Identity(database, keys).create_first(region="cn-north-4")
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("DELETE FROM operations")
        row = connection.execute("SELECT projects.id, users.id FROM projects, users").fetchone()
    assert row is not None
    async with database.transaction() as tx:
        await archives.add_archive(tx, digest=DIGEST, content=io.BytesIO(b"archive"), size=7)
    return row[0], row[1]


async def accept(database: Database, owner: tuple[str, str], *, name: str = "web") -> OperationRow:
    return await stand(database, new_install(*owner, release_name=name, chart_digest=DIGEST))


async def take(database: Database, *, lease_seconds: float = 6.0, worker: str = "one") -> OperationRow | None:
    return await Queue(database, poll_seconds=1.0).take(worker=worker, lease_seconds=lease_seconds)


async def finish(
    database: Database, row: OperationRow, *, state: str = "succeeded"
) -> operations.EndedOperation | None:
    async with database.transaction() as tx:
        return await attempts.finish(
            tx,
            row.id,
            attempt=row.attempt,
            state=state,
            status_description="Install complete",
            revision=1,
            wrote_revision=True,
        )


async def state_of(database: Database, row: OperationRow) -> OperationRow:
    async with database.transaction() as tx:
        found = await operations.find_operation(tx, row.id)
    assert found is not None
    return found


# SQLAlchemy 2 hands on NOT VALID of a reflected constraint as an argument that it does not know (0047 has one).
@pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options'")
def test_the_migrations_make_exactly_the_tables_that_the_queries_use(database_url: str):
    engine = create_engine(Database(database_url).url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_migrating_twice_changes_nothing(database_url: str):
    assert migrate(Database(database_url)) == (newest_revision(), newest_revision())


async def test_a_second_operation_on_a_release_is_refused_until_the_first_has_ended(
    database: Database, owner: tuple[str, str]
):
    first = await accept(database, owner)
    with pytest.raises(AlreadyExists, match="another operation on release 'web'"):
        await accept(database, owner)
    taken = await take(database)
    assert taken is not None
    assert taken.id == first.id
    assert await finish(database, taken, state="failed")
    await accept(database, owner)


async def test_many_workers_take_every_operation_exactly_once(database: Database, owner: tuple[str, str]):
    accepted = [await accept(database, owner, name=f"web-{number}") for number in range(30)]

    async def drain(worker: str) -> list[str]:
        taken = []
        while (row := await take(database, worker=worker)) is not None:
            taken.append(row.id)
        return taken

    drained = await asyncio.gather(*(drain(f"worker-{number}") for number in range(6)))
    assert sorted(one for taken in drained for one in taken) == sorted(row.id for row in accepted)


async def test_what_waited_beyond_its_deadline_fails_without_a_worker_unless_it_may_have_written(
    database: Database, owner: tuple[str, str]
):
    late = await stand(database, new_install(*owner, release_name="late", deadline_seconds=1))
    begun = await stand(database, new_install(*owner, release_name="begun", deadline_seconds=1))
    in_time = await accept(database, owner, name="in-time")
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("UPDATE operations SET created_at = created_at - interval '1 min'")
        connection.execute("UPDATE operations SET last_writing_attempt = 1 WHERE id = %s", [begun.id])
    async with database.autocommit() as connection:
        assert [one.id for one in await attempts.fail_overdue(connection)] == [late.id]
    ended = await state_of(database, late)
    assert (ended.state, ended.status_description) == (
        "failed",
        "timed out after 1 s: it waited in the queue for a worker",
    )
    assert ended.finished_at is not None
    assert [(await state_of(database, one)).state for one in (begun, in_time)] == ["queued", "queued"]


async def test_a_worker_that_was_taken_over_cannot_write_an_outcome(database: Database, owner: tuple[str, str]):
    await accept(database, owner)
    first = await take(database, lease_seconds=0.05)
    assert first is not None
    await asyncio.sleep(0.1)
    async with database.transaction() as tx:
        assert await attempts.requeue_lapsed(tx, margin_seconds=0.0) == [first.id]
    second = await take(database, worker="two")
    assert second is not None
    assert (second.id, second.attempt, second.crashes) == (first.id, 2, 1)
    assert not await finish(database, first, state="failed")
    assert (await state_of(database, first)).state == "running"
    assert await finish(database, second)
    assert (await state_of(database, first)).state == "succeeded"


async def test_a_held_lease_is_not_swept_and_a_lapsed_one_is_never_renewed(database: Database, owner: tuple[str, str]):
    await accept(database, owner)
    row = await take(database, lease_seconds=0.5)
    assert row is not None
    connection = LeaseConnection(database, timeout_seconds=2.0)
    try:
        assert connection.renew(row.id, attempt=row.attempt, lease_seconds=0.2)
        async with database.transaction() as tx:
            assert await attempts.requeue_lapsed(tx, margin_seconds=0.0) == []
        await asyncio.sleep(0.3)
        assert not connection.renew(row.id, attempt=row.attempt, lease_seconds=6.0)
    finally:
        connection.close()


async def test_the_holder_learns_that_its_lease_is_lost(database: Database, owner: tuple[str, str]):
    await accept(database, owner)
    row = await take(database)
    assert row is not None
    renewed, lost = threading.Event(), threading.Event()
    settings = WorkerSettings(renew_seconds=0.05)
    with Lease(
        database,
        settings,
        row.id,
        attempt=row.attempt,
        on_renewed=lambda _seconds: renewed.set(),
        on_lost=lost.set,
    ) as lease:
        assert await asyncio.to_thread(renewed.wait, 5)
        async with database.transaction() as tx:
            await attempts.give_back(tx, row.id, attempt=row.attempt, last_error="taken away")
        assert await asyncio.to_thread(lost.wait, 5)
        assert lease.lost


async def test_a_retry_waits_and_then_counts_crashes_only(database: Database, owner: tuple[str, str]):
    await accept(database, owner)
    first = await take(database)
    assert first is not None
    async with database.transaction() as tx:
        await attempts.give_back(tx, first.id, attempt=1, last_error="unreachable", retry_seconds=0.3)
    assert await take(database) is None
    await asyncio.sleep(0.4)
    second = await take(database)
    assert second is not None
    assert (second.attempt, second.crashes, second.last_error) == (2, 0, "unreachable")


async def test_an_accepted_operation_wakes_a_waiting_worker_at_once(database: Database, owner: tuple[str, str]):
    queue = Queue(database, poll_seconds=30.0)
    listener = asyncio.create_task(queue.listen())
    try:
        for number in range(50):  # until the listener is connected
            await accept(database, owner, name=f"web-{number}")
            try:
                async with asyncio.timeout(0.2):
                    await queue.wait()
            except TimeoutError:
                continue
            return
        raise AssertionError("no notification woke the worker")
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def test_an_announcement_wakes_one_slot_and_what_that_takes_wakes_the_next(
    database: Database, owner: tuple[str, str]
):
    queue = Queue(database, poll_seconds=30.0)
    await accept(database, owner, name="before")
    listener = asyncio.create_task(queue.listen())
    slots = {asyncio.create_task(queue.wait()) for _ in range(3)}
    try:
        names = (f"web-{number}" for number in range(50))
        woken: set[asyncio.Task[None]] = set()
        while not woken:  # until the listener is connected
            await accept(database, owner, name=next(names))
            woken, slots = await asyncio.wait(slots, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        more, slots = await asyncio.wait(slots, timeout=0.2)
        assert (len(woken), len(more), len(slots)) == (1, 0, 2)
        assert await queue.take(worker="one", lease_seconds=6.0) is not None
        more, slots = await asyncio.wait(slots, timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
        assert (len(more), len(slots)) == (1, 1)
    finally:
        for task in (listener, *slots):
            task.cancel()
        await asyncio.gather(listener, *slots, return_exceptions=True)


async def test_what_replaces_an_operation_that_ended_wakes_nobody(database: Database, owner: tuple[str, str]):
    queue = Queue(database, poll_seconds=30.0)
    for name in ("one", "two", "three"):
        await accept(database, owner, name=name)
    await stand(database, new_install(*owner, release_name="web", chart_digest=DIGEST, cluster_id="another"))
    await accept(database, owner, name="four")

    async def wakes() -> bool:
        """Return True if a slot that waits is woken."""
        waiting = asyncio.create_task(queue.wait())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        waiting.cancel()
        return bool(done)

    async def take_next() -> OperationRow:
        taken = await queue.take(worker="one", lease_seconds=6.0)
        assert taken is not None
        return taken

    first = await take_next()
    assert await wakes()
    queue.note_end(first)
    second = await take_next()
    assert second.api_server == first.api_server
    assert not await wakes()
    await take_next()
    assert await wakes()  # nothing ended before it
    queue.note_end(second)
    other = await take_next()
    assert other.api_server != second.api_server
    assert await wakes()  # what the second left is still free
    assert (await take_next()).api_server == second.api_server
    assert await queue.take(worker="one", lease_seconds=6.0) is None
    assert not await wakes()
    queue.note_end(replace(other, crashes=1))
    for name in ("five", "six"):
        await accept(database, owner, name=name)
    await take_next()
    assert await wakes()  # what had crashed may have kept others away
    await take_next()
    assert not await wakes()  # nothing else waits


async def lapse(database: Database) -> None:
    async with database.transaction() as tx:
        await attempts.requeue_lapsed(tx, margin_seconds=0.0)


async def test_a_worker_that_lives_takes_back_the_crash_that_its_lapsed_lease_counted_as(
    database: Database, owner: tuple[str, str]
):
    await accept(database, owner)
    first = await take(database, lease_seconds=0.05)
    assert first is not None
    await asyncio.sleep(0.1)
    await lapse(database)
    second = await take(database, worker="two")
    assert second is not None
    assert second.crashes == 1
    async with database.transaction() as tx:
        assert not await attempts.give_back(tx, first.id, attempt=first.attempt, last_error="late")
        assert await attempts.excuse(tx, first.id, attempt=first.attempt)
        assert not await attempts.excuse(tx, first.id, attempt=first.attempt)
    assert (await state_of(database, first)).crashes == 0
    assert await finish(database, second)


async def test_a_worker_that_lives_takes_back_the_crash_of_an_operation_that_is_being_cancelled(
    database: Database, owner: tuple[str, str]
):
    await accept(database, owner)
    row = await take(database, lease_seconds=0.05)
    assert row is not None
    async with database.transaction() as tx:
        assert await attempts.begin(tx, row.id, attempt=row.attempt, base=None, deployed=None, revision=1)
        await operations.cancel(tx, row.id, keep=False, underway="is being cancelled", ended="cancelled")
    await asyncio.sleep(0.1)
    await lapse(database)
    assert (await state_of(database, row)).crashes == 1
    async with database.transaction() as tx:
        assert not await attempts.give_back(tx, row.id, attempt=row.attempt, last_error="late")
        assert await attempts.excuse(tx, row.id, attempt=row.attempt)
    now = await state_of(database, row)
    assert (now.state, now.crashes) == ("cancelling", 0)


async def test_an_attempt_begins_only_while_it_holds_its_operation(database: Database, owner: tuple[str, str]):
    await accept(database, owner)
    row = await take(database)
    assert row is not None
    base = attempts.Base(4, uid="uid", version="77")
    async with database.transaction() as tx:
        assert not await attempts.begin(tx, row.id, attempt=row.attempt + 1, base=base, deployed=None, revision=5)
        assert await attempts.begin(tx, row.id, attempt=row.attempt, base=base, deployed=None, revision=5)
    now = await state_of(database, row)
    assert (now.last_writing_attempt, now.revision, now.base_revision, now.base_uid, now.base_version) == (
        1,
        5,
        4,
        "uid",
        "77",
    )
    async with database.transaction() as tx:
        assert await operations.cancel(tx, row.id, keep=False, underway="being deleted", ended="being deleted")
        assert not await attempts.begin(tx, row.id, attempt=row.attempt, base=base, deployed=None, revision=6)
    assert (await state_of(database, row)).revision == 5


async def test_an_install_that_nobody_took_is_cancelled_at_once(database: Database, owner: tuple[str, str]):
    row = await accept(database, owner)
    async with database.transaction() as tx:
        cancelled = await operations.cancel(tx, row.id, keep=False, underway="being deleted", ended="being deleted")
    assert cancelled is not None
    assert (cancelled.state, cancelled.status_description) == ("cancelled", "being deleted")
    assert await take(database) is None
    async with database.transaction() as tx:
        assert await operations.cancel(tx, row.id, keep=False, underway="again", ended="again") is None


async def test_a_cancel_survives_its_worker_and_ends_as_one(database: Database, owner: tuple[str, str]):
    await accept(database, owner)
    first = await take(database, lease_seconds=0.05)
    assert first is not None
    async with database.transaction() as tx:
        assert await attempts.begin(tx, first.id, attempt=first.attempt, base=None, deployed=None, revision=1)
        cancelling = await operations.cancel(tx, first.id, keep=False, underway="being deleted", ended="being deleted")
    assert cancelling is not None
    assert (cancelling.state, cancelling.attempt) == ("cancelling", 1)
    assert not await finish(database, first), "an install that is being cancelled has no end of its own"
    await asyncio.sleep(0.1)
    await lapse(database)
    second = await take(database, worker="two")
    assert second is not None
    assert (second.state, second.attempt) == ("cancelling", 2)
    async with database.transaction() as tx:
        assert await attempts.finish(
            tx,
            second.id,
            attempt=second.attempt,
            state="cancelled",
            status_description="cancelled and uninstalled",
            revision=None,
            wrote_revision=False,
            cancelling=True,
        )
    assert (await state_of(database, second)).state == "cancelled"


async def test_an_install_that_a_dead_worker_began_is_not_cancelled_without_a_look(
    database: Database, owner: tuple[str, str]
):
    await accept(database, owner)
    row = await take(database)
    assert row is not None
    async with database.transaction() as tx:
        await attempts.begin(tx, row.id, attempt=row.attempt, base=None, deployed=None, revision=1)
        await attempts.give_back(tx, row.id, attempt=row.attempt, last_error="crashed", crashed=True, retry_seconds=60)
        cancelling = await operations.cancel(tx, row.id, keep=False, underway="being deleted", ended="being deleted")
    assert cancelling is not None
    assert cancelling.state == "cancelling"
    again = await take(database)
    assert again is not None
    assert again.id == row.id


async def test_what_a_dead_worker_held_is_put_back_at_once_and_nobody_elses(database: Database, owner: tuple[str, str]):
    held = []
    for number, worker in enumerate(("host-1:7:0", "host-1:7:1", "host-10:7:0")):
        await accept(database, owner, name=f"web-{number}")
        row = await take(database, worker=worker)
        assert row is not None
        held.append(row)
    async with database.transaction() as tx:
        assert set(await attempts.end_leases(tx, worker="host-1")) == {held[0].id, held[1].id}
    assert [(await state_of(database, row)).state for row in held] == ["queued", "queued", "running"]
    again = await take(database)
    assert again is not None
    assert (again.attempt, again.crashes, again.last_error) == (2, 1, "the worker died")
    assert not await finish(database, held[0], state="failed")

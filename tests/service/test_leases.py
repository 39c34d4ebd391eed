"""Holding an operation: whatever the database does, the holder knows in time that it may hold it no longer."""

import asyncio
import ctypes
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from pilothouse.auth.sealing import MasterKeys
from pilothouse.engine.deadline import Fence
from pilothouse.engine.pool import EnginePool
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.queue import Queue
from pilothouse.services.clusters import Clusters
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.index import ReleaseIndex
from pilothouse.services.releases.preflight import Preflight
from pilothouse.settings import Settings, WorkerSettings
from pilothouse.states import OperationState
from pilothouse.store import attempts, operations
from pilothouse.store.database import Database
from pilothouse.store.operations import OperationRow
from pilothouse.store.tables import operations as operations_table
from pilothouse.store.takes import Caps
from pilothouse.worker.actions.registry import Actions
from pilothouse.worker.index_writer import IndexWriter
from pilothouse.worker.lease import Lease
from pilothouse.worker.outcome import Outcome
from pilothouse.worker.runner import Runner
from pilothouse.worker.slots import Slot
from tests.support.operations import accept, new_install
from tools.localcluster.faults.proxy import FaultProxy, fault_proxy
from tools.localcluster.faults.rules import Rule

SHORT = WorkerSettings(renew_seconds=0.1, fence_seconds=1.0, lease_seconds=1.5, lease_margin_seconds=0.3)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with fault_proxy() as running:
        yield running


def test_a_renewal_that_is_never_answered_loses_the_lease(proxy: FaultProxy, database_url: str):
    proxy.arm(Rule(action="freeze", resource="UPDATE operations(lease_until)"))
    lost = threading.Event()
    settings = WorkerSettings(renew_seconds=0.1, fence_seconds=1.0)
    database = Database(proxy.postgres(database_url))
    with Lease(database, settings, str(uuid.uuid4()), attempt=1, on_renewed=lambda _: None, on_lost=lost.set) as lease:
        (held,) = proxy.wait_held(20)
        assert lost.wait(20)
        assert lease.lost
        assert not lease.held_up
    proxy.release(held, "cut")


async def test_a_process_that_is_held_up_by_its_own_work_knows_it(database: Database, projects: tuple[str, str]):
    await accept(database, new_install(projects[0], "user"))
    row = await Queue(database, poll_seconds=1.0).take(worker="one:0", lease_seconds=SHORT.lease_seconds)
    assert row is not None
    lost = threading.Event()
    with Lease(database, SHORT, row.id, attempt=row.attempt, on_renewed=lambda _: None, on_lost=lost.set) as lease:
        hold_interpreter(2.0)
        assert lost.wait(20)
        assert lease.held_up


async def test_a_process_that_is_stopped_from_outside_is_not_held_up(database: Database, projects: tuple[str, str]):
    """No thread of it runs, as with SIGSTOP, and it does nothing meanwhile."""
    await accept(database, new_install(projects[0], "user"))
    row = await Queue(database, poll_seconds=1.0).take(worker="one:0", lease_seconds=SHORT.lease_seconds)
    assert row is not None
    lost = threading.Event()
    with Lease(database, SHORT, row.id, attempt=row.attempt, on_renewed=lambda _: None, on_lost=lost.set) as lease:
        ctypes.PyDLL(None).usleep(2_000_000)
        assert lost.wait(20)
        assert not lease.held_up


async def _end(database: Database, row: OperationRow) -> None:
    async with database.transaction() as tx:
        assert await attempts.finish(
            tx,
            row.id,
            attempt=row.attempt,
            state=OperationState.SUCCEEDED,
            status_description="done",
            revision=1,
            wrote_revision=True,
        )


async def _put_back(database: Database, row: OperationRow) -> None:
    async with database.transaction() as tx:
        assert await attempts.give_back(tx, row.id, attempt=row.attempt, last_error="again", retry_seconds=60)


async def _lapse(database: Database, row: OperationRow) -> None:
    """Have the lease end, as if the holder had been cut off, and another worker see it."""
    async with database.transaction() as tx:
        ended = operations_table.c.lease_until - timedelta(hours=1)
        await tx.execute(update(operations_table).where(operations_table.c.id == row.id).values(lease_until=ended))
        assert await attempts.requeue_lapsed(tx, margin_seconds=0) == [row.id]


async def _take_over(database: Database, row: OperationRow) -> None:
    await _lapse(database, row)
    taken = await Queue(database, poll_seconds=1.0).take(worker="two:0", lease_seconds=60)
    assert taken is not None
    assert (taken.id, taken.attempt) == (row.id, row.attempt + 1)


@pytest.mark.parametrize(("change", "is_lost"), [(_end, False), (_put_back, False), (_lapse, True), (_take_over, True)])
async def test_what_the_attempt_has_ended_itself_is_not_lost(
    *,
    database: Database,
    projects: tuple[str, str],
    change: Callable[[Database, OperationRow], Awaitable[None]],
    is_lost: bool,
):
    """On a busy machine renewals go on between the end that is stored and the one that the holder hears of."""
    await accept(database, new_install(projects[0], "user"))
    row = await Queue(database, poll_seconds=1.0).take(worker="one:0", lease_seconds=60)
    assert row is not None
    lost = threading.Event()
    settings = WorkerSettings(renew_seconds=0.05, fence_seconds=30, lease_seconds=60)
    with Lease(database, settings, row.id, attempt=row.attempt, on_renewed=lambda _: None, on_lost=lost.set) as lease:
        await change(database, row)
        assert await asyncio.to_thread(lost.wait, 10 if is_lost else 1) is is_lost
        assert lease.lost is is_lost


class Holding(Actions):
    """An attempt at the release "holding" holds the interpreter, as a library may that works on what a tenant sent."""

    async def attempt(self, row: OperationRow, *, fence: Fence, seconds: float, slot: Slot) -> Outcome:
        del fence, seconds, slot
        if row.release_name == "holding":
            await asyncio.sleep(0.2)
            hold_interpreter(2.0)
        await asyncio.sleep(0.5 if row.attempt > 1 else 20)  # a first attempt lasts until the hold ends it
        return Outcome(OperationState.CANCELLED, "as always")


async def test_what_holds_its_worker_up_each_time_is_given_up_and_not_what_ran_beside_it(
    database: Database, projects: tuple[str, str], tmp_path: Path
):
    settings = Settings(data_dir=tmp_path, worker=SHORT)
    keys = MasterKeys.load_or_create(settings.master_key)
    clusters = Clusters(database, keys, ClusterClients(settings.cluster), settings.cluster)
    engine = EnginePool(settings.engine, state_dir=tmp_path)
    caps = Caps.of_worker(4, reserved=0, per_project=None, per_cluster=None, attempts=SHORT.attempts)
    queue = Queue(database, poll_seconds=0.1, caps=caps)
    actions = Holding(ReleaseDependencies(database, keys, clusters, engine, settings, Preflight(settings)))
    runner = Runner(database, queue, actions, IndexWriter(clusters, ReleaseIndex(keys)), settings, name="")
    rows = [await accept(database, new_install(projects[0], "user", release_name="holding"))]
    rows += [await accept(database, new_install(projects[1], "user", release_name=f"beside-{n}")) for n in range(2)]
    stop = asyncio.Event()
    running = asyncio.create_task(runner.run(stop))
    try:
        async with asyncio.timeout(60):
            holding, *beside = [await ended(database, row) for row in rows]
    finally:
        stop.set()
        await running
    assert holding.state == "failed"
    # Blocked by its own work, unless the next attempt began before the worker could say so.
    reasons = ("was blocked by its own work", "died, or could not reach the database in time")
    assert holding.status_description.startswith(
        tuple(f"gave up after 3 attempts: the worker {why}" for why in reasons)
    )
    assert [row.state for row in beside] == ["cancelled"] * 2
    assert max(row.crashes for row in beside) >= 1, "they were beside it"


async def ended(database: Database, row: OperationRow) -> OperationRow:
    """Return the operation once it has ended."""
    while row.finished_at is None:
        await asyncio.sleep(0.1)
        async with database.autocommit() as connection:
            row = await operations.find_operation(connection, row.id) or row
    return row


def hold_interpreter(seconds: float) -> None:
    """One call that uses so much of the processor, and in which no other thread of this process runs."""
    began = time.process_time()
    sum(range(count := 3_000_000))
    each = (time.process_time() - began) / count
    sum(range(int(seconds / each)))

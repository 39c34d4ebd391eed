"""How many connections a process keeps, and that it loses none."""

import asyncio
import gc
import selectors
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
import pytest
from psycopg._pipeline_base import BasePipeline
from sqlalchemy import text

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store import database as module
from pilothouse.store import operations
from pilothouse.store.database import Database, Transaction

_AT_ONCE = 5


async def _use_many(database: Database) -> set[int]:
    """Return the server processes of several connections that were in use at the same time."""
    everybody = asyncio.Barrier(_AT_ONCE)

    async def use() -> int:
        async with database.transaction() as connection:
            pid: int = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await everybody.wait()
        return pid

    return set(await asyncio.gather(*(use() for _ in range(_AT_ONCE))))


async def _living(database: Database, pids: set[int]) -> set[int]:
    async with database.autocommit() as connection:
        found = await connection.execute(text("SELECT pid FROM pg_stat_activity"))
        return pids.intersection(found.scalars())


async def test_connections_that_nobody_needs_are_closed(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.2)
    other = Database(database.dsn())
    try:
        pids = await _use_many(other)
        assert len(await _living(database, pids)) == _AT_ONCE
        until = time.monotonic() + 10
        while await _living(database, pids) and time.monotonic() < until:
            await other.ping()
            await asyncio.sleep(0.05)
        assert not await _living(database, pids)
        await _use_many(other)
    finally:
        await other.close()


async def test_connections_stay_while_they_are_needed(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.05)
    other = Database(database.dsn())
    try:
        pids = await _use_many(other)
        for _ in range(5):
            await asyncio.sleep(0.06)
            assert await _use_many(other) == pids
    finally:
        await other.close()


@pytest.mark.parametrize("generic", [True, False])
async def test_a_process_that_repeats_its_statements_plans_them_once(database: Database, *, generic: bool):
    other = Database(database.dsn(), pool_size=1, generic_plans=generic)
    statement = text("SELECT count(*) FROM operations WHERE id = :id")
    counts = text("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%count(*)%'")
    try:
        async with other.autocommit() as connection:
            for number in range(4):
                await connection.execute(statement, {"id": str(number)})
            (found,) = (await connection.execute(counts)).all()
        assert tuple(found) == ((3, 0) if generic else (0, 3))  # the first is not prepared yet
    finally:
        await other.close()


async def _pid(connection: Transaction) -> int:
    pid: int = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    return pid


@pytest.mark.parametrize("block", [Database.transaction, Database.autocommit])
async def test_cancelled_while_it_takes_a_connection(
    database: Database, block: Callable[[Database], AbstractAsyncContextManager[Transaction]]
):
    """psycopg lets other tasks run, even in what needs no waiting, when the loop was blocked for 5 ms before."""
    await database.ping()

    async def use() -> None:
        async with block(database) as connection:
            await _pid(connection)

    for steps in range(1, 5):
        time.sleep(0.02)  # noqa: ASYNC251 - the blocked loop is the case
        using = asyncio.create_task(use())
        for _ in range(steps):
            await asyncio.sleep(0)
        using.cancel()
        await asyncio.gather(using, return_exceptions=True)
        assert not _abandoned()
    await database.ping()


@pytest.fixture
def cancelled_at_a_pipeline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return how to have the task that enters psycopg's next pipeline cancelled just then, once."""
    due = False
    enter = BasePipeline._enter_gen

    def entered(pipeline: BasePipeline) -> Generator[Any, Any, None]:
        nonlocal due
        if due:
            due = False
            psycopg.waiting._last_yield = 0.0  # as after a blocked loop: psycopg lets others run, and the cancel comes
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        yield from enter(pipeline)

    def arm() -> None:
        nonlocal due
        due = True

    monkeypatch.setattr(BasePipeline, "_enter_gen", entered)
    return arm


@pytest.mark.parametrize("block", [Database.transaction, Database.autocommit])
async def test_cancelled_while_a_pipeline_is_entered(
    database: Database,
    block: Callable[[Database], AbstractAsyncContextManager[Transaction]],
    cancelled_at_a_pipeline: Callable[[], None],
):
    """psycopg raises an AssertionError then, and leaves the connection in the pipeline, where nothing returns rows."""
    other = Database(database.dsn(), pool_size=1)

    async def use() -> None:
        async with block(other) as connection:
            cancelled_at_a_pipeline()
            await connection.execute(text("SELECT set_config('x.y', :value, false)"), [{"value": "1"}, {"value": "2"}])

    try:
        (end,) = await asyncio.gather(asyncio.create_task(use()), return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), repr(end)
        async with other.autocommit() as connection:
            assert await _pid(connection)
        assert not _abandoned()
    finally:
        await other.close()


async def test_a_broken_connection_costs_no_other_one(database: Database):
    """What is in use while another one breaks goes on, is replaced when it is returned, and is not left behind."""
    other = Database(database.dsn())
    async with other.transaction() as in_use:
        pid = await _pid(in_use)
        with pytest.raises(DatabaseUnavailable):
            async with other.autocommit() as connection:
                await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert await _pid(in_use) == pid
    async with other.autocommit() as connection:
        assert await _pid(connection) != pid, "it may be as broken as the other one"
    assert not await _living(database, {pid})
    await other.close()
    assert not _abandoned()


async def test_a_standby_is_left_at_once(database: Database):
    """After a fail-over, connections to the old server answer, but take no writes."""
    other = Database(database.dsn())
    async with other.autocommit() as connection:
        pid = await _pid(connection)
    with pytest.raises(DatabaseUnavailable):
        await _write_in_a_read_only_transaction(other)
    async with other.autocommit() as connection:
        assert await _pid(connection) != pid
    await other.close()


async def test_what_is_returned_after_the_end_is_closed(database: Database):
    other = Database(database.dsn())
    async with other.transaction() as connection:
        pid = await _pid(connection)
        await other.close()
        assert await _pid(connection) == pid
    del connection
    assert not _abandoned()
    async with asyncio.timeout(10):
        while await _living(database, {pid}):  # noqa: ASYNC110 - another process ends it
            await asyncio.sleep(0.05)


async def _write_in_a_read_only_transaction(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("SET TRANSACTION READ ONLY"))
        await connection.execute(text("CREATE TABLE never (id int)"))


def _abandoned() -> list[str]:
    """Return what the garbage collector says about connections that nobody closed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    return [str(warning.message) for warning in caught]


async def test_living_workers_are_counted(database: Database):
    async def count() -> int:
        async with database.autocommit() as connection:
            return await operations.count_workers(connection)

    async def becomes(wanted: int) -> bool:
        for _ in range(1000):
            if await count() == wanted:
                return True
            await asyncio.sleep(0.02)
        return False

    async def listen() -> None:
        async for _ in other.notifications(operations.CHANNEL):
            pass

    before = await count()
    other = Database(database.dsn())
    listening = asyncio.create_task(listen())
    try:
        assert await becomes(before + 1)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await other.close()
    assert await becomes(before)


def test_who_waits_for_notifications_sleeps(database_url: str):
    """The event loop of a process that only listens has nothing to do ten times a second."""
    turns = 0

    class Counted(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            nonlocal turns
            turns += 1
            return super().select(timeout)

    async def listen() -> tuple[int, list[str]]:
        heard: asyncio.Queue[str] = asyncio.Queue()
        database = Database(database_url)

        async def hear() -> None:
            async for payload in database.notifications("quiet_channel"):
                await heard.put(payload)

        hearing = asyncio.create_task(hear())
        await asyncio.sleep(1)
        before = turns
        await asyncio.sleep(3)
        quiet = turns - before
        async with database.autocommit() as connection:
            await connection.execute(text("SELECT pg_notify('quiet_channel', 'first')"))
            await connection.execute(text("SELECT pg_notify('quiet_channel', 'second')"))
        async with asyncio.timeout(4):
            both = [await heard.get(), await heard.get()]
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await database.close()
        return quiet, both

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Counted())) as runner:
        quiet, heard = runner.run(listen())

    assert heard == ["first", "second"]
    assert quiet <= 6, f"{quiet} turns of the loop in 3 s"

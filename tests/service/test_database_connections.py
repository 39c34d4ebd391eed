"""How many connections a process keeps."""

import asyncio
import time

import pytest
from sqlalchemy import text

from pilothouse.store import database as module
from pilothouse.store.database import Database

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

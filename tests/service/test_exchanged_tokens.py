"""ID tokens that were exchanged: each counts once, whichever replica is asked, and is forgotten when it is old."""

import asyncio
from datetime import UTC, datetime, timedelta

from pilothouse.store import exchanged_tokens
from pilothouse.store.database import Database


async def claim(database: Database, digest: str, until: datetime) -> bool:
    async with database.autocommit() as connection:
        return await exchanged_tokens.claim(connection, digest, until=until)


async def test_one_of_many_at_a_time_gets_it(database: Database):
    until = datetime.now(UTC) + timedelta(minutes=10)
    claimed = await asyncio.gather(*(claim(database, "a" * 64, until) for _ in range(8)))
    assert sorted(claimed) == [False] * 7 + [True]
    assert await claim(database, "b" * 64, until), "another one"


async def test_what_is_too_old_for_any_replica_is_forgotten(database: Database):
    now = datetime.now(UTC)
    for letter, minutes in (("c", -61), ("d", -59), ("e", 10)):
        assert await claim(database, letter * 64, now + timedelta(minutes=minutes))
    async with database.transaction() as tx:
        assert await exchanged_tokens.expire(tx, limit=100) == 1
    assert [await claim(database, letter * 64, now) for letter in "cde"] == [True, False, False]

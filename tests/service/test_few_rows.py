"""Statements that take, or delete, only so many rows: they do so however the database plans them."""

import psycopg
import pytest

from pilothouse.store import cluster_watches, idempotency_keys, repairs, takes
from pilothouse.store.database import Database
from tests.support.operations import accept, new_install

ROWS = 5

_FILL = (
    """INSERT INTO repairs (operation_id, cluster_id, namespace, release_name, due_at)
    SELECT id, cluster_id, namespace, release_name, clock_timestamp() FROM operations WHERE id = %(id)s""",
    """INSERT INTO idempotency_keys (project_id, user_id, key, operation_id, record_sealed, created_at)
    SELECT project_id, user_id, id, id, '', clock_timestamp() - interval '1 day' FROM operations WHERE id = %(id)s""",
    """INSERT INTO clusters (id, project_id, name, server, kubeconfig_sealed)
    SELECT id, project_id, id, '', '' FROM operations WHERE id = %(id)s""",
    "INSERT INTO cluster_watches (cluster_id) VALUES (%(id)s)",
)


@pytest.fixture
async def filled(database: Database, projects: tuple[str, str]) -> Database:
    """Operations that wait, each with a repair that is due, an old key, and a cluster that nobody watches.

    The planner believes that each table has one row, as after an ANALYZE at the wrong moment: then a subquery may be
    run once for every row.
    """
    async with await psycopg.AsyncConnection.connect(database.dsn(), autocommit=True) as connection:
        await connection.execute("DELETE FROM cluster_watches")
        for number in range(ROWS):
            one = await accept(database, new_install(projects[0], "user", release_name=f"web-{number}"))
            for statement in _FILL:
                await connection.execute(statement, {"id": one.id})
            if number == 0:
                await connection.execute("VACUUM ANALYZE operations, repairs, idempotency_keys, cluster_watches")
    return database


async def test_one_repair_is_taken_at_a_time(filled: Database):
    async with filled.transaction() as tx:
        taken = [await repairs.take_repair(tx, lease_seconds=60) for _ in range(ROWS + 1)]
    assert len({one.operation_id for one in taken if one}) == ROWS
    assert taken[-1] is None


async def test_a_cluster_that_cannot_be_reached_holds_up_no_repairs_of_others(filled: Database):
    last = """UPDATE repairs SET cluster_id = 'other'
    WHERE operation_id = (SELECT operation_id FROM repairs ORDER BY due_at DESC LIMIT 1) RETURNING operation_id"""
    async with await psycopg.AsyncConnection.connect(filled.dsn(), autocommit=True) as connection:
        [(other,)] = await (await connection.execute(last)).fetchall()
    async with filled.transaction() as tx:
        taken = await repairs.take_repair(tx, lease_seconds=60)
        assert taken is not None
        await repairs.postpone_cluster(tx, taken, seconds=60)
        after = [await repairs.take_repair(tx, lease_seconds=60) for _ in range(2)]
    assert [one and one.operation_id for one in after] == [other, None]


@pytest.mark.parametrize("limit", [None, 10])
async def test_one_operation_is_taken_at_a_time(filled: Database, limit: int | None):
    caps = takes.Caps(per_cluster=limit)
    async with filled.transaction() as tx:
        taken = [await takes.take(tx, worker="one", lease_seconds=60, caps=caps) for _ in range(ROWS + 1)]
    assert len({one.row.id for one in taken if one}) == ROWS
    assert [one.more for one in taken if one] == [True] * (ROWS - 1) + [False]
    assert taken[-1] is None


async def test_an_observer_takes_no_more_than_its_share(filled: Database):
    async with filled.transaction() as tx:
        assert len(await cluster_watches.take(tx, "one", lease_seconds=60, limit=2)) == 2
        assert len(await cluster_watches.take(tx, "two", lease_seconds=60, limit=ROWS)) == ROWS - 2


async def test_keys_expire_a_few_at_a_time(filled: Database):
    async with filled.transaction() as tx:
        assert [await idempotency_keys.expire(tx, life_seconds=60, limit=2) for _ in range(4)] == [2, 2, 1, 0]

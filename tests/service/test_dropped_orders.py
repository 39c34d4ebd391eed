"""What was ordered is dropped when its operation ends, but for what is shown of it to somebody; real PostgreSQL."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pilothouse.settings import RetentionSettings
from pilothouse.store import attempts, idempotency_keys, operations, repairs, retention, takes
from pilothouse.store import submit as queue
from pilothouse.store.database import Database
from pilothouse.store.idempotency_keys import NewKey
from pilothouse.store.operations import OperationRow
from pilothouse.worker.maintenance.retention import forget
from tests.support.operations import LIMITS, accept, new_install

DAY = 24 * 3600.0
Left = tuple[bytes | None, bytes | None]
NOTHING: Left = (None, None)
SHOWN: Left = (None, b"shown")
WHOLE: Left = (b"sealed", b"shown")
Execute = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def execute(database: Database, projects: tuple[str, str]) -> Execute:
    """Run SQL; there are no operations."""
    del projects

    def run(sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(database.dsn(), autocommit=True) as connection:
            done = connection.execute(sql.encode(), parameters)
            return done.fetchall() if done.description else []

    return run


def order_of(execute: Execute, row: OperationRow) -> Left:
    (found,) = execute("SELECT request_sealed, shown_sealed FROM operations WHERE id = %s", row.id)
    return found[0], found[1]


async def stand(database: Database, *, key: str = "", **different: Any) -> OperationRow:
    """Return an accepted operation, with a key if there is one."""
    new = new_install("busy", "user", **different)
    if not key:
        return await accept(database, new)
    async with database.transaction() as tx:
        return await queue.enqueue(
            tx,
            new,
            audit_action="cce:release:create",
            observed_seconds_ago=0.0,
            limits=LIMITS,
            key=NewKey(key, b"record", DAY),
        )


async def take(database: Database) -> OperationRow:
    async with database.transaction() as tx:
        taken = await takes.take(tx, worker="one:0", lease_seconds=60)
    assert taken is not None
    return taken.row


async def end(database: Database, row: OperationRow, state: str, **different: Any) -> None:
    usual = {"status_description": "over", "revision": None, "wrote_revision": state == "succeeded"}
    async with database.transaction() as tx:
        assert await attempts.finish(tx, row.id, attempt=row.attempt, state=state, **usual | different)


async def cancel(database: Database, row: OperationRow) -> OperationRow | None:
    async with database.transaction() as tx:
        return await operations.cancel(tx, row.id, keep=False, underway="ending", ended="ended")


@pytest.mark.parametrize(
    ("action", "state", "wrote", "left"),
    [
        ("install", "succeeded", True, NOTHING),
        ("install", "failed", True, NOTHING),
        ("install", "failed", False, SHOWN),
        ("upgrade", "succeeded", True, NOTHING),
        ("upgrade", "failed", True, NOTHING),
        ("upgrade", "failed", False, NOTHING),
        ("rollback", "succeeded", True, NOTHING),
        ("uninstall", "succeeded", False, NOTHING),
        ("uninstall", "failed", False, NOTHING),
    ],
)
async def test_an_end_leaves_what_is_shown_of_a_failed_install_and_else_nothing(
    database: Database, execute: Execute, *, action: str, state: str, wrote: bool, left: Left
):
    await stand(database, action=action)
    row = await take(database)
    assert (row.request_sealed, row.shown_sealed) == WHOLE
    await end(database, row, state, wrote_revision=wrote)
    assert order_of(execute, row) == left


async def test_what_a_key_stands_for_is_shown_until_the_key_is_forgotten(database: Database, execute: Execute):
    await stand(database, key="key")
    row = await take(database)
    await end(database, row, "succeeded")
    assert order_of(execute, row) == SHOWN
    settings = RetentionSettings(key_seconds=DAY)
    assert (await forget(database, settings))["orders"] == 0
    async with database.transaction() as tx:
        found = await idempotency_keys.find_key(tx, project_id="busy", user_id="user", key="key", life_seconds=DAY)
    assert found is not None
    assert found.operation.shown_sealed == b"shown"
    execute("UPDATE operations SET answers_until = clock_timestamp() WHERE id = %s", row.id)
    assert (await forget(database, settings))["orders"] == 1
    assert order_of(execute, row) == NOTHING


async def test_a_key_that_comes_while_an_operation_ends_finds_what_is_shown_or_is_told(
    database: Database, execute: Execute
):
    await stand(database)
    row = await take(database)
    async with database.transaction() as tx:
        assert await operations.keep_shown(tx, row.id, seconds=DAY)
        ending = asyncio.create_task(end(database, row, "succeeded"))  # it waits for this transaction
        await asyncio.sleep(0.3)
        assert not ending.done()
    await ending
    assert order_of(execute, row) == SHOWN
    await stand(database, release_name="other")
    other = await take(database)
    await end(database, other, "succeeded")
    async with database.transaction() as tx:
        assert not await operations.keep_shown(tx, other.id, seconds=DAY)


async def test_what_never_began_has_no_order_once_it_is_cancelled(database: Database, execute: Execute):
    plain, answered = await stand(database), await stand(database, release_name="answered", key="key")
    for row in (plain, answered):
        cancelled = await cancel(database, row)
        assert cancelled is not None
        assert cancelled.state == "cancelled"
    assert order_of(execute, plain) == NOTHING
    assert order_of(execute, answered) == SHOWN


async def test_what_is_being_cancelled_has_its_order_until_its_undo_has_ended(database: Database, execute: Execute):
    await stand(database)
    row = await take(database)
    async with database.transaction() as tx:
        assert await attempts.begin(tx, row.id, attempt=row.attempt, base=None, deployed=None, revision=1)
    await cancel(database, row)
    assert order_of(execute, row) == WHOLE
    await end(database, row, "cancelled", cancelling=True)
    assert order_of(execute, row) == NOTHING


async def test_what_waited_beyond_its_deadline_has_lost_its_order(database: Database, execute: Execute):
    install, upgrade = await stand(database), await stand(database, release_name="other", action="upgrade")
    execute("UPDATE operations SET created_at = created_at - interval '1 day'")
    async with database.transaction() as tx:
        assert {one.id for one in await attempts.fail_overdue(tx)} == {install.id, upgrade.id}
    assert order_of(execute, install) == SHOWN
    assert order_of(execute, upgrade) == NOTHING


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_repair_has_the_order_until_it_is_over(database: Database, execute: Execute, *, given_up: bool):
    await stand(database, action="upgrade")
    row = await take(database)
    async with database.transaction() as tx:
        await attempts.finish(
            tx,
            row.id,
            attempt=row.attempt,
            state="failed",
            status_description="unseen",
            revision=None,
            wrote_revision=False,
            keep_order=True,
        )
        await repairs.plan_repair(tx, row.id, after_seconds=0.0)
    assert order_of(execute, row) == WHOLE
    await forget(database, RetentionSettings())
    assert order_of(execute, row) == WHOLE, "the repair is to come"
    async with database.transaction() as tx:
        taken = await repairs.take_repair(tx, lease_seconds=60)
        assert taken is not None
        if given_up:
            assert not await repairs.postpone_repair(tx, taken, seconds=1, at_most_seconds=0.0)
        else:
            await repairs.end_repair(tx, taken)
    assert order_of(execute, row) == NOTHING


async def test_a_dismissed_failure_loses_what_was_shown_of_it(database: Database, execute: Execute):
    await stand(database)
    row = await take(database)
    await end(database, row, "failed")
    assert (await forget(database, RetentionSettings()))["orders"] == 0
    async with database.transaction() as tx:
        assert await operations.dismiss(tx, row.id)
    assert (await forget(database, RetentionSettings()))["orders"] == 1
    assert order_of(execute, row) == NOTHING


async def test_rows_that_ended_in_an_earlier_release_lose_their_orders_a_few_at_a_time(
    database: Database, execute: Execute
):
    rows = [await stand(database, release_name=f"web-{number}") for number in range(6)]
    execute("UPDATE operations SET shown_sealed = NULL, state = 'succeeded', finished_at = now()")
    failed, answered = rows[:2]
    execute("UPDATE operations SET state = 'failed' WHERE id = %s", failed.id)
    execute("UPDATE operations SET answers_until = now() + interval '1 day' WHERE id = %s", answered.id)
    async with database.transaction() as tx:
        assert await retention.drop_orders(tx, limit=4) == 4
        assert await retention.drop_orders(tx, limit=4) == 2
        assert await retention.drop_orders(tx, limit=4) == 0
    assert [order_of(execute, row) for row in rows[:2]] == [(None, b"sealed")] * 2, "the one of then holds both"
    assert [order_of(execute, row) for row in rows[2:]] == [NOTHING] * 4


async def test_an_operation_of_an_earlier_release_that_ends_now_keeps_what_is_shown(
    database: Database, execute: Execute
):
    await stand(database)
    execute("UPDATE operations SET shown_sealed = NULL")
    row = await take(database)
    await end(database, row, "failed")
    assert order_of(execute, row) == (None, b"sealed")


async def test_a_list_of_operations_carries_no_orders(database: Database, execute: Execute):
    row = await stand(database)
    async with database.transaction() as tx:
        (listed,) = await operations.list_operations(
            tx,
            project_id="busy",
            cluster_id=None,
            namespace=None,
            release_name=None,
            state=None,
            places=None,
            before=None,
            limit=10,
        )
    assert (listed.id, listed.request_sealed, listed.shown_sealed) == (row.id, None, None)
    assert order_of(execute, row) == WHOLE

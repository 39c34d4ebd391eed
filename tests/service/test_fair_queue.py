"""Whose operation is next, and how many may wait, on a real PostgreSQL."""

import asyncio

import psycopg
import pytest
from sqlalchemy import event

from pilothouse.errors import AlreadyExists, Busy
from pilothouse.queue import Queue
from pilothouse.store import attempts
from pilothouse.store import submit as queue
from pilothouse.store.database import Database
from pilothouse.store.idempotency_keys import NewKey
from pilothouse.store.operations import OperationRow
from pilothouse.store.submit import QueueLimits
from pilothouse.store.takes import NO_CAPS, Caps
from tests.support.operations import LIMITS, accept, new_install

USER = "user"


async def add(
    database: Database, project_id: str, names: list[str], *, cluster_id: str = "cluster", limits: QueueLimits = LIMITS
) -> None:
    for name in names:
        new = new_install(project_id, USER, release_name=name, cluster_id=cluster_id)
        await accept(database, new, limits=limits)


async def take(database: Database, *, caps: Caps = NO_CAPS) -> OperationRow | None:
    queue = Queue(database, poll_seconds=1.0, caps=caps)
    return await queue.take(worker="one", lease_seconds=60.0)


async def take_names(database: Database, count: int) -> list[str]:
    taken = [await take(database) for _ in range(count)]
    return [row.release_name for row in taken if row is not None]


async def finish(database: Database, row: OperationRow) -> None:
    async with database.transaction() as tx:
        assert await attempts.finish(
            tx, row.id, attempt=row.attempt, state="failed", status_description="", revision=None, wrote_revision=False
        )


async def test_a_project_with_a_long_queue_does_not_keep_the_others_waiting(
    database: Database, projects: tuple[str, str]
):
    busy, quiet = projects
    await add(database, busy, [f"b{number}" for number in range(20)])
    assert await take_names(database, 3) == ["b0", "b1", "b2"]
    await add(database, quiet, ["q0", "q1"])
    assert await take_names(database, 5) == ["b3", "q0", "b4", "q1", "b5"]


async def test_a_project_that_comes_and_goes_does_not_overtake_a_long_queue_for_ever(
    database: Database, projects: tuple[str, str]
):
    busy, quiet = projects
    await add(database, busy, [f"b{number}" for number in range(10)])
    order = []
    for number in range(10):  # the quiet project has one waiting at every moment
        await add(database, quiet, [f"q{number}"])
        row = await take(database)
        assert row is not None
        order.append(row.release_name)
        await finish(database, row)
    assert sum(name.startswith("b") for name in order) >= 4, order


async def test_an_operation_that_waits_for_its_retry_does_not_let_newcomers_overtake_everybody(
    database: Database, projects: tuple[str, str]
):
    busy, quiet = projects
    await add(database, busy, [f"b{number}" for number in range(10)])
    first = await take(database)
    assert first is not None
    async with database.transaction() as tx:
        await attempts.give_back(tx, first.id, attempt=1, last_error="unreachable", retry_seconds=600)
    assert await take_names(database, 5) == ["b1", "b2", "b3", "b4", "b5"]
    await add(database, quiet, ["q0", "q1"])
    assert await take_names(database, 4) == ["b6", "q0", "b7", "q1"]


async def test_a_full_cluster_refuses_and_takes_again_when_one_was_taken(database: Database, projects: tuple[str, str]):
    limits = QueueLimits(per_cluster=2, per_project=100, retry_seconds=7)
    await add(database, projects[0], ["one", "two"], limits=limits)
    with pytest.raises(Busy, match="2 operations of this cluster are already queued") as refused:
        await add(database, projects[1], ["three"], limits=limits)
    assert refused.value.retry_after_seconds == 7
    with pytest.raises(AlreadyExists, match="still running"):
        await add(database, projects[0], ["one"], limits=limits)
    await add(database, projects[1], ["three"], cluster_id="another", limits=limits)
    assert await take(database) is not None
    await add(database, projects[1], ["four"], limits=limits)


async def test_a_full_project_refuses_and_the_others_go_on(database: Database, projects: tuple[str, str]):
    limits = QueueLimits(per_cluster=100, per_project=2, retry_seconds=7)
    await add(database, projects[0], ["one", "two"], limits=limits)
    with pytest.raises(Busy, match="2 operations of this project are already queued"):
        await add(database, projects[0], ["three"], cluster_id="another", limits=limits)
    await add(database, projects[1], ["three"], limits=limits)


async def test_a_cluster_that_hangs_holds_no_more_workers_than_it_may(database: Database, projects: tuple[str, str]):
    await add(database, projects[0], [f"h{number}" for number in range(5)], cluster_id="hangs")
    await add(database, projects[0], ["w"], cluster_id="works")
    taken = [await take(database, caps=Caps(per_cluster=2)) for _ in range(4)]
    assert [row.release_name if row else None for row in taken] == ["h0", "h1", "w", None]
    assert taken[0] is not None
    await finish(database, taken[0])
    following = await take(database, caps=Caps(per_cluster=2))
    assert following is not None
    assert following.release_name == "h2"


async def test_requests_at_the_same_moment_stand_each_once_and_in_turn(database: Database, projects: tuple[str, str]):
    busy, quiet = projects
    await asyncio.gather(
        *(add(database, busy, [f"b{number}"]) for number in range(6)),
        *(add(database, quiet, [f"q{number}"]) for number in range(6)),
    )
    assert len(set(await take_names(database, 13))) == 12


@pytest.mark.parametrize("key", [None, NewKey("fresh", b"sealed", 86400.0)])
async def test_a_place_that_becomes_free_while_the_refusal_is_explained_is_taken(
    database: Database, projects: tuple[str, str], key: NewKey | None
):
    limits = QueueLimits(per_cluster=1, per_project=1000, retry_seconds=1)
    await add(database, projects[0], ["first"], limits=limits)
    async with database.autocommit() as connection:

        def end_the_first(*_: object) -> None:
            with psycopg.connect(database.dsn(), autocommit=True) as connection:
                connection.execute("UPDATE operations SET state = 'failed' WHERE release_name = 'first'")

        event.listen(connection.sync_connection, "after_cursor_execute", end_the_first, once=True)
        new = new_install(projects[0], USER, release_name="second")
        row = await queue.enqueue(
            connection, new, audit_action="cce:release:create", observed_seconds_ago=0.0, limits=limits, key=key
        )
    assert row.release_name == "second"


async def test_large_orders_at_the_same_moment_take_no_more_bytes_than_a_project_may_have(
    database: Database, projects: tuple[str, str]
):
    limits = QueueLimits(per_cluster=1000, per_project=1000, retry_seconds=7, bytes_per_project=105_000)

    async def add_large(name: str, project_id: str = projects[0]) -> OperationRow:
        new = new_install(project_id, USER, release_name=name, request_sealed=bytes(15_000), shown_sealed=bytes(5_000))
        return await accept(database, new, limits=limits)

    ended = await asyncio.gather(*(add_large(f"l{number}") for number in range(12)), return_exceptions=True)
    refusals = [one for one in ended if isinstance(one, BaseException)]
    assert len(refusals) == 7
    for refusal in refusals:
        assert isinstance(refusal, Busy)
        assert "queued requests of this project have 100000 bytes, with this one more than 105000" in str(refusal)
        assert refusal.retry_after_seconds == 7
    # Small ones go on, as do the other projects; and what is taken makes room.
    await add(database, projects[0], ["small"], limits=limits)
    await add_large("other", projects[1])
    assert await take(database) is not None
    assert (await add_large("next")).order_bytes == 20_000

"""What one tenant can hold of the workers, on a real PostgreSQL: never every place, however it asks."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.rows import scalar_row
from sqlalchemy import event

from pilothouse.queue import Queue
from pilothouse.store import attempts, takes
from pilothouse.store.database import Database
from pilothouse.store.operations import OperationRow
from pilothouse.store.submit import QueueLimits
from pilothouse.store.takes import Caps
from tests.support.operations import accept, new_install

USER = "user"
LIMITS = QueueLimits(per_cluster=10_000, per_project=10_000, retry_seconds=1)
#: A worker of four places, by default.
CAPS = Caps(project_here=3, cluster_here=3)


async def add(database: Database, project_id: str, names: list[str], **different: Any) -> None:
    for name in names:
        await accept(database, new_install(project_id, USER, release_name=name, **different), limits=LIMITS)


async def take(queue: Queue, place: int = 0, *, process: str = "host:7") -> OperationRow | None:
    return await queue.take(worker=f"{process}:{place}", lease_seconds=60.0)


async def take_names(queue: Queue, count: int, *, process: str = "host:7") -> list[str | None]:
    taken = [await take(queue, place, process=process) for place in range(count)]
    return [row.release_name if row else None for row in taken]


async def finish(database: Database, row: OperationRow) -> None:
    async with database.transaction() as tx:
        assert await attempts.finish(
            tx, row.id, attempt=row.attempt, state="failed", status_description="", revision=None, wrote_revision=False
        )


async def test_a_project_never_holds_every_place_of_a_worker(database: Database, projects: tuple[str, str]):
    busy, quiet = projects
    for number in range(6):
        await add(database, busy, [f"b{number}"], cluster_id=f"own-{number}")
    queue = Queue(database, poll_seconds=1.0, caps=CAPS)
    assert await take_names(queue, 4) == ["b0", "b1", "b2", None]
    await add(database, quiet, ["q0"], cluster_id="quiet")
    row = await take(queue, 3)
    assert row is not None
    assert row.release_name == "q0"


async def test_places_that_ask_at_the_same_moment_do_not_go_over_it_together(
    database: Database, projects: tuple[str, str]
):
    await add(database, projects[0], [f"b{number}" for number in range(20)])
    queue = Queue(database, poll_seconds=1.0, caps=CAPS)
    taken = await asyncio.gather(*(take(queue, place) for place in range(8)))
    assert sum(row is not None for row in taken) == 3


async def test_one_api_server_is_one_however_often_it_is_registered(database: Database, projects: tuple[str, str]):
    for number in range(5):
        project = projects[number % 2]
        await add(database, project, [f"h{number}"], cluster_id=f"copy-{number}")
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("UPDATE operations SET api_server = 'hangs.example.com:443'")
    queue = Queue(database, poll_seconds=1.0, caps=CAPS)
    assert [name is not None for name in await take_names(queue, 4)] == [True, True, True, False]
    await add(database, projects[0], ["w"], cluster_id="works")
    assert await take_names(queue, 1) == ["w"]


async def test_each_worker_keeps_a_place_and_what_a_worker_ends_is_its_tenants_again(
    database: Database, projects: tuple[str, str]
):
    await add(database, projects[0], [f"b{number}" for number in range(8)])
    queue = Queue(database, poll_seconds=1.0, caps=CAPS)
    first = await take(queue)
    assert first is not None
    assert await take_names(queue, 3) == ["b1", "b2", None]
    assert await take_names(queue, 4, process="host:70") == ["b3", "b4", "b5", None]
    await finish(database, first)
    assert await take_names(queue, 2) == ["b6", None]


async def test_last_chances_are_not_beside_each_other_in_one_process(database: Database, projects: tuple[str, str]):
    """What brings a whole worker down again and again is given up, and not whoever was beside it."""
    caps = Caps(last_chance=2)
    busy, quiet = projects
    queue, elsewhere = (Queue(database, poll_seconds=1.0, caps=caps) for _ in range(2))
    await add(database, busy, ["b0", "fresh"])
    await add(database, quiet, ["q0", "q1"])
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("UPDATE operations SET crashes = 2 WHERE release_name <> 'fresh'")
        assert await take_names(queue, 3) == ["b0", "fresh", None]
        other = await elsewhere.take(worker="other:0", lease_seconds=60)
        assert other is not None
        assert other.release_name == "q0"
        connection.execute("UPDATE operations SET taken_at = taken_at - interval '31 s'")
        assert await take_names(queue, 2) == ["q1", None], "the first one has run for long"


async def test_what_only_waits_counts_for_no_place_of_its_worker(database: Database, projects: tuple[str, str]):
    busy, quiet = projects
    await add(database, busy, [f"b{number}" for number in range(8)])
    queue = Queue(database, poll_seconds=1.0, caps=Caps(project_here=1, cluster_here=2))
    first = await take(queue)
    assert first is not None
    assert await take(queue, 1) is None
    second = await queue.take(worker="host:7:1", lease_seconds=60.0, besides=[first.id])
    assert second is not None
    assert await queue.take(worker="host:7:2", lease_seconds=60.0, besides=[first.id]) is None
    await add(database, quiet, ["q0"])
    other = await queue.take(worker="host:7:2", lease_seconds=60.0, besides=[first.id])
    assert other is not None
    assert other.release_name == "q0"
    queue = Queue(database, poll_seconds=1.0, caps=Caps(per_project=2))
    third = await queue.take(worker="host:7:3", lease_seconds=60.0, besides=[first.id])
    assert third is None, "over all workers it counts"


@pytest.mark.parametrize("caps", [Caps(per_project=2), Caps(per_cluster=2)], ids=["project", "cluster"])
async def test_a_cap_over_all_workers_counts_what_every_worker_holds(
    database: Database, projects: tuple[str, str], caps: Caps
):
    await add(database, projects[0], [f"b{number}" for number in range(3)])
    queue = Queue(database, poll_seconds=1.0, caps=caps)
    assert await take_names(queue, 1, process="one:1") == ["b0"]
    assert await take_names(queue, 1, process="two:1") == ["b1"]
    assert await take_names(queue, 1, process="three:1") == [None]


async def explain_take(database: Database, caps: Caps) -> dict[str, Any]:
    """Return what PostgreSQL does for a take, without a change that stays."""
    said: list[tuple[str, Any]] = []
    async with database.transaction() as tx:
        event.listen(
            tx.sync_connection, "before_cursor_execute", lambda _c, _u, sql, given, *_: said.append((sql, given))
        )
        await takes.take(tx, worker="host:7:0", lease_seconds=60, caps=caps)
        await tx.rollback()
    (statement, parameters) = said[0]
    with psycopg.connect(database.dsn(), row_factory=scalar_row) as connection:
        found = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters).fetchone()
        connection.rollback()
    assert found is not None
    plan: dict[str, Any] = found[0]
    return plan


async def fill(database: Database, project_id: str, count: int) -> None:
    """So many wait at one API server, in clones of the one that waits; the planner has seen none of them."""
    copied = """
    INSERT INTO operations (id, queue_position, release_name, project_id, user_id, cluster_id, api_server, namespace,
      action, state, chart_id, chart_name, chart_version, request_sealed, deadline_seconds, request_id)
    SELECT id || n, queue_position + n, release_name || n, project_id, user_id, cluster_id, api_server, namespace,
      action, state, chart_id, chart_name, chart_version, request_sealed, deadline_seconds, request_id
    FROM operations, generate_series(1, %s) n WHERE state = 'queued' AND project_id = %s
    """
    async with await psycopg.AsyncConnection.connect(database.dsn(), autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE operations")
        await connection.execute(copied, [count, project_id])


#: Pages that a take may touch: a few per waiting project and API server.
MOST_PAGES = 100


@pytest.mark.parametrize("analyzed", [False, True], ids=["unseen", "analyzed"])
async def test_a_take_costs_no_more_behind_thousands_that_wait_for_a_cap(
    database: Database, projects: tuple[str, str], *, analyzed: bool
):
    busy, quiet = projects
    queue = Queue(database, poll_seconds=1.0, caps=CAPS)
    await add(database, busy, [f"b{number}" for number in range(3)])
    assert await take_names(queue, 4) == ["b0", "b1", "b2", None]
    await add(database, busy, ["b3"])
    await fill(database, busy, 5000)
    await add(database, quiet, ["q0", "q1"], cluster_id="cluster")
    await add(database, quiet, ["q2"], cluster_id="elsewhere")
    if analyzed:
        async with await psycopg.AsyncConnection.connect(database.dsn(), autocommit=True) as connection:
            await connection.execute("VACUUM ANALYZE operations")
    plan = await explain_take(database, CAPS)
    touched = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    assert touched < MOST_PAGES, plan
    assert await take_names(queue, 2) == ["q2", None], "the API server is at its cap, too"


async def test_a_project_does_not_use_up_what_its_api_server_may_have(database: Database, projects: tuple[str, str]):
    busy, quiet = projects
    caps = Caps.of_worker(4, reserved=1, per_project=None, per_cluster=None, attempts=3)
    queue = Queue(database, poll_seconds=1.0, caps=caps)
    await add(database, busy, [f"b{number}" for number in range(4)])
    assert await take_names(queue, 3) == ["b0", "b1", None]
    await add(database, quiet, ["q0", "q1"])
    assert await take_names(queue, 2) == ["q0", None], "three of the four places are at this API server"
    await add(database, quiet, ["q2"], cluster_id="elsewhere")
    assert await take_names(queue, 1) == ["q2"]


@pytest.mark.parametrize(
    ("places", "reserved", "project", "cluster"),
    [(1, 1, 1, None), (2, 1, 1, None), (3, 1, 2, None), (4, 1, 2, 3), (8, 1, 6, 7), (8, 2, 4, 6), (4, 0, 4, 4)],
)
def test_what_a_worker_leaves_to_others(places: int, reserved: int, project: int, cluster: int | None):
    caps = Caps.of_worker(places, reserved=reserved, per_project=None, per_cluster=None, attempts=3)
    assert (caps.project_here, caps.cluster_here) == (project, cluster)

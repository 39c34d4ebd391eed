"""What is over is forgotten after a while, and nothing that a reader still needs, on a real PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg.rows import scalar_row
from sqlalchemy.event import listen

from pilothouse.errors import Busy, KeyUsed
from pilothouse.settings import RetentionSettings
from pilothouse.store import idempotency_keys, operation_events, operations
from pilothouse.store import submit as queue
from pilothouse.store.database import Database, Transaction
from pilothouse.store.idempotency_keys import NewKey
from pilothouse.store.operations import OperationRow
from pilothouse.store.release_index import sweep_tombstones
from pilothouse.worker.maintenance import retention
from pilothouse.worker.maintenance.retention import forget
from tests.support.operations import LIMITS, accept, new_install

USER = "user"
WEEK = 7 * 24 * 3600.0
#: Everything of the last week is kept.
SETTINGS = RetentionSettings(operation_seconds=WEEK, audit_seconds=WEEK, audit_failed_seconds=WEEK, key_seconds=WEEK)
Execute = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def execute(database: Database, projects: tuple[str, str]) -> Execute:
    """Run SQL; the clusters "listed" and "unknown" are registered, and there are no audit rows."""

    def run(sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(database.dsn(), autocommit=True) as connection:
            done = connection.execute(sql.encode(), parameters)
            return done.fetchall() if done.description else []

    run("ALTER TABLE audit DISABLE TRIGGER USER")  # which refuse it
    run("DELETE FROM audit")
    run("ALTER TABLE audit ENABLE TRIGGER USER")
    for name, listed in (("listed", "now"), ("unknown", None)):
        run(
            "INSERT INTO clusters (id, project_id, name, server, kubeconfig_sealed)"
            " VALUES (%s, %s, %s, 'https://', '')",
            *(name, projects[0], name),
        )
        run("INSERT INTO cluster_watches (cluster_id, listed_at) VALUES (%s, %s)", name, listed)
    return run


def index(execute: Execute, name: str, *revisions: int, gone: bool = False) -> None:
    """Put the revisions into the release index of the cluster "listed"."""
    for revision in revisions:
        execute(
            "INSERT INTO release_revisions (cluster_id, namespace, secret, name, revision, epoch, resource_version,"
            " uid, status, description, chart_name, chart_version, gone_at)"
            " VALUES ('listed', 'default', %s, %s, %s, 0, 1, '', 'deployed', '', 'chart', '1', %s)",
            *(f"{name}.v{revision}", name, revision, "now" if gone else None),
        )


async def ended(
    database: Database,
    execute: Execute,
    name: str,
    *,
    state: str = "succeeded",
    cluster_id: str = "listed",
    revision: int | None = 1,
    days_ago: int = 10,
) -> OperationRow:
    """Return an operation that ended that long ago; it wrote the revision, if there is one."""
    row = await accept(database, new_install("busy", USER, release_name=name, cluster_id=cluster_id))
    execute(
        "UPDATE operations SET state = %s, revision = %s, wrote_revision = %s,"
        " created_at = clock_timestamp() - make_interval(days => %s),"
        " finished_at = clock_timestamp() - make_interval(days => %s) WHERE id = %s",
        *(state, revision, revision is not None, days_ago, days_ago, row.id),
    )
    return row


def left(execute: Execute) -> list[tuple[Any, ...]]:
    return execute("SELECT release_name, revision FROM operations ORDER BY release_name, revision, created_at")


async def test_an_old_failure_goes_with_its_events_and_a_young_or_a_living_one_stays(
    database: Database, execute: Execute
):
    old = await ended(database, execute, "old", state="failed", revision=None)
    await ended(database, execute, "young", state="failed", revision=None, days_ago=6)
    living = await accept(database, new_install("busy", USER, release_name="living", cluster_id="listed"))
    execute("UPDATE operations SET created_at = created_at - interval '1 year' WHERE id = %s", living.id)
    where = {"cluster_id": "listed", "namespace": "default", "release_name": "old"}
    async with database.transaction() as tx:
        await operation_events.add_event(tx, old.id, attempt=1, kind="told", text="something")
        assert await operations.find_shown(tx, **where) is not None
    assert (await forget(database, SETTINGS))["operations"] == 1
    assert left(execute) == [("living", None), ("young", None)]
    assert execute("SELECT count(*) FROM operation_events") == [(0,)]
    async with database.transaction() as tx:
        assert await operations.find_shown(tx, **where) is None, "it is no longer shown as failed"


async def test_an_operation_stays_as_long_as_the_revision_that_it_wrote(database: Database, execute: Execute):
    for revision, days_ago in ((1, 30), (2, 20), (3, 10)):
        await ended(database, execute, "web", revision=revision, days_ago=days_ago)
    index(execute, "web", 2, 3)
    await forget(database, SETTINGS)
    assert left(execute) == [("web", 2), ("web", 3)]
    execute("UPDATE release_revisions SET gone_at = now()")
    await forget(database, SETTINGS)
    assert left(execute) == []


async def test_the_last_operation_on_a_release_stays_while_helm_alone_goes_on_with_it(
    database: Database, execute: Execute
):
    await ended(database, execute, "web", revision=1, days_ago=30)
    await ended(database, execute, "web", revision=2, days_ago=20)
    index(execute, "web", 11, 12)
    await forget(database, SETTINGS)
    assert left(execute) == [("web", 2)], "a delete asks it whether hooks were wanted"


async def test_a_cluster_that_was_never_listed_keeps_everything_and_one_that_is_gone_nothing(
    database: Database, execute: Execute
):
    await ended(database, execute, "web", cluster_id="unknown")
    await ended(database, execute, "failed", cluster_id="unknown", state="failed", revision=None)
    await ended(database, execute, "web", cluster_id="removed")
    await forget(database, SETTINGS)
    assert execute("SELECT release_name, cluster_id FROM operations") == [("web", "unknown")]


async def test_the_walk_goes_on_behind_what_it_keeps(
    database: Database, execute: Execute, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retention, "_AT_ONCE", 3)
    for number in range(8):
        kept = number < 5
        await ended(database, execute, f"r{number}", revision=1 if kept else None, state="failed", days_ago=40 - number)
        if kept:
            index(execute, f"r{number}", 1)
    assert (await forget(database, SETTINGS))["operations"] == 3
    assert [name for name, _ in left(execute)] == [f"r{number}" for number in range(5)]


async def pages_of(database: Database, sweep: Callable[[Transaction], Awaitable[object]]) -> int:
    """Return how many pages PostgreSQL touches for the sweep, which it does not carry out."""
    said: list[tuple[str, Any]] = []
    async with database.transaction() as tx:
        listen(tx.sync_connection, "before_cursor_execute", lambda _c, _u, sql, given, *_: said.append((sql, given)))
        await sweep(tx)
        await tx.rollback()
    [(statement, parameters)] = said
    with psycopg.connect(database.dsn(), row_factory=scalar_row) as connection:
        found = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters).fetchone()
        connection.rollback()
    assert found is not None
    return int(found[0]["Plan"]["Shared Hit Blocks"]) + int(found[0]["Plan"]["Shared Read Blocks"])


def fill(execute: Execute) -> None:
    """Ten revisions of each of 3,000 releases of one namespace."""
    execute(
        "INSERT INTO release_revisions (cluster_id, namespace, secret, name, revision, epoch, resource_version, uid,"
        " status, description, chart_name, chart_version)"
        " SELECT 'listed', 'default', 'r' || n, 'r' || mod(n, 3000), n / 3000 + 1, 0, 1, '', 'superseded', '', 'chart',"
        " '1' FROM generate_series(0, 29999) n"
    )


async def test_tombstones_are_found_without_reading_what_lives(database: Database, execute: Execute):
    fill(execute)
    index(execute, "buried", 1)
    execute("UPDATE release_revisions SET gone_at = now() - interval '1 day' WHERE name = 'buried'")
    execute("ANALYZE release_revisions")
    assert await pages_of(database, sweep_tombstones) < 50
    async with database.transaction() as tx:
        assert await sweep_tombstones(tx) == 1


async def test_audit_rows_go_by_age_in_pieces(database: Database, execute: Execute):
    execute(
        "INSERT INTO audit (at, project_id, user_id, action, target, request_id)"
        " SELECT now() - interval '8 days', '', '', '', 'old', '' FROM generate_series(1, 450)"
    )
    execute("INSERT INTO audit (project_id, user_id, action, target, request_id) VALUES ('', '', '', 'young', '')")
    assert (await forget(database, SETTINGS))["audit"] == 450
    assert execute("SELECT target FROM audit") == [("young",)]


async def test_failed_proofs_go_sooner_than_deeds(database: Database, execute: Execute):
    rows = [("done", ""), ("denied", ""), ("failed", "iam:tokens:create"), ("failed", "cce:source:push")]
    for outcome, action in rows:
        execute(
            "INSERT INTO audit (at, project_id, user_id, action, target, request_id, outcome)"
            " SELECT now() - interval '3 days', '', '', %s, '', '', %s FROM generate_series(1, 250)",
            action,
            outcome,
        )
    short = SETTINGS.model_copy(update={"audit_failed_seconds": 2 * 24 * 3600.0})
    assert (await forget(database, short))["audit"] == 250
    left = [("denied", "", 250), ("done", "", 250), ("failed", "cce:source:push", 250)]
    assert execute("SELECT outcome, action, count(*) FROM audit GROUP BY 1, 2 ORDER BY 1") == left


async def test_workers_that_do_it_at_the_same_moment_do_it_once(database: Database, execute: Execute):
    for number in range(20):
        await ended(database, execute, f"r{number}", state="failed", revision=None)
    gone = await asyncio.gather(*(forget(database, SETTINGS) for _ in range(4)))
    assert sum(one["operations"] for one in gone) == 20
    assert left(execute) == []


def key_of(record: bytes, *, life_seconds: float = WEEK) -> NewKey:
    return NewKey("key", record, life_seconds)


async def accept_with(database: Database, name: str, key: NewKey) -> OperationRow:
    async with database.transaction() as tx:
        return await queue.enqueue(
            tx,
            new_install("busy", USER, release_name=name),
            audit_action="cce:release:create",
            observed_seconds_ago=0.0,
            limits=LIMITS,
            key=key,
        )


async def find(database: Database, *, life_seconds: float = WEEK) -> bytes | None:
    async with database.transaction() as tx:
        found = await idempotency_keys.find_key(
            tx, project_id="busy", user_id=USER, key="key", life_seconds=life_seconds
        )
    return found.record_sealed if found else None


async def test_a_key_is_claimed_with_its_operation_and_anew_when_it_is_old(database: Database, execute: Execute):
    await accept_with(database, "one", key_of(b"first"))
    with pytest.raises(KeyUsed, match="'key' was already used"):
        await accept_with(database, "two", key_of(b"second"))
    assert left(execute) == [("one", None)]
    assert execute("SELECT count(*) FROM audit") == [(1,)]
    execute("UPDATE idempotency_keys SET created_at = created_at - interval '8 days'")
    assert await find(database) is None
    await accept_with(database, "two", key_of(b"second"))
    assert await find(database) == b"second"


async def test_a_key_is_forgotten_when_it_is_old_or_its_operation_is(database: Database, execute: Execute):
    row = await accept_with(database, "one", key_of(b"first"))
    assert (await forget(database, SETTINGS))["keys"] == 0
    execute("UPDATE idempotency_keys SET created_at = created_at - interval '8 days'")
    assert (await forget(database, SETTINGS))["keys"] == 1
    assert execute("SELECT count(*) FROM idempotency_keys") == [(0,)]
    await accept_with(database, "two", key_of(b"second"))
    execute("DELETE FROM operations")
    assert await find(database) is None
    assert row.state == "queued"


@pytest.mark.usefixtures("execute")
async def test_a_refused_operation_leaves_the_key_free(database: Database):
    full = queue.QueueLimits(per_cluster=1, per_project=100, retry_seconds=1)
    await accept(database, new_install("busy", USER, release_name="first"))
    async with database.transaction() as tx:
        with pytest.raises(Busy):
            await queue.enqueue(
                tx,
                new_install("busy", USER, release_name="second"),
                audit_action="cce:release:create",
                observed_seconds_ago=0.0,
                limits=full,
                key=key_of(b"second"),
            )
    assert await find(database) is None

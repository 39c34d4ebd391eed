"""Two who lock the same rows do so in one order, and what waits in a circle nevertheless is repeated or said."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
import pytest
from psycopg.rows import dict_row

from pilothouse.errors import NotFound, TransactionConflict
from pilothouse.http.errors import error_response
from pilothouse.queue import Queue
from pilothouse.states import ReleaseStatus
from pilothouse.store import access_keys, attempts, clusters, projects, repairs, retention, roles, users
from pilothouse.store.database import Database, Transaction, retry_conflicts
from pilothouse.store.release_index import NewRevision
from tests.support.operations import accept, new_install

Write = Callable[[Transaction], Awaitable[Any]]

WAITING = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Rows:
    """A connection that fills tables, holds rows until others wait for them, and looks at them afterwards."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def run(self, *statements: str, **parameters: object) -> list[dict[str, Any]]:
        """Run the statements; return the rows of the last one, if it returns some."""
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True, row_factory=dict_row) as one:
            for statement in statements:
                cursor = await one.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def hold(self, statement: str, parameters: dict[str, object], *writers: Callable[[], Awaitable[Any]]) -> Any:
        """Start the writers one after the other while the rows are locked; return what they return, or raise."""
        running: list[asyncio.Task[Any]] = []
        async with await psycopg.AsyncConnection.connect(self._url) as holder:
            await holder.execute(statement, parameters)
            for writer in writers:
                running.append(asyncio.create_task(_as_coroutine(writer)))
                async with asyncio.timeout(20):
                    while await self.waiting() < len(running):  # noqa: ASYNC110 (a lock sets no event)
                        await asyncio.sleep(0.01)
            await holder.commit()
        async with asyncio.timeout(20):
            return await asyncio.gather(*running, return_exceptions=True)

    async def waiting(self) -> int:
        """How many transactions wait for another one."""
        return int((await self.run(WAITING))[0]["n"])


async def _as_coroutine(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


_MADE = (
    "INSERT INTO domains (id, name) VALUES ('d', 'd')",
    "INSERT INTO projects (id, domain_id, name) VALUES ('p', 'd', 'p'), ('q', 'd', 'q')",
    "INSERT INTO users (id, domain_id, name, password_hash) VALUES ('u', 'd', 'u', '')",
    "INSERT INTO clusters (id, project_id, name, server, kubeconfig_sealed) VALUES ('c', 'p', 'c', '', '')",
    "INSERT INTO cluster_watches (cluster_id) VALUES ('c')",
)
_REMOVED = (
    "DELETE FROM operations",
    "DELETE FROM clusters WHERE project_id = 'p'",
    "DELETE FROM access_keys WHERE user_id = 'u'",
    "DELETE FROM users WHERE domain_id = 'd'",
    "DELETE FROM projects WHERE domain_id = 'd'",
    "DELETE FROM domains WHERE id = 'd'",
)


@pytest.fixture
async def rows(database: Database) -> AsyncIterator[Rows]:
    """The tables with a project, its cluster and a user; no operations."""
    tables = Rows(database.dsn())
    await tables.run("DELETE FROM operations", *_MADE)
    yield tables
    await tables.run(*_REMOVED)


def writing(database: Database, write: Write) -> Callable[[], Awaitable[Any]]:
    async def run() -> Any:
        async with database.transaction() as tx:
            return await write(tx)

    return run


def revision(number: int) -> NewRevision:
    return NewRevision(
        namespace="default", secret=f"sh.helm.release.v1.web.v{number}", name="web", revision=number,
        resource_version=number, problem="", uid=f"uid-{number}", status=ReleaseStatus.DEPLOYED, description="",
        chart_name="web", chart_version="1.0.0", first_deployed=LONG_AGO, last_deployed=LONG_AGO, deleted_at=None,
        values_sealed=None, values_text_size=0, app_version="", manager="", operation_id="",
    )  # fmt: skip


async def taken_operation(database: Database) -> str:
    await accept(database, new_install("p", "u", cluster_id="c"))
    row = await Queue(database, poll_seconds=1).take(worker="one", lease_seconds=60)
    assert row is not None
    return row.id


def finish(database: Database, operation_id: str, number: int) -> Callable[[], Awaitable[Any]]:
    async def run() -> Any:
        async with database.autocommit() as connection:
            return await attempts.finish(
                connection,
                operation_id,
                attempt=1,
                state="succeeded",
                status_description="Install complete",
                revision=number,
                wrote_revision=True,
                seen=("c", revision(number)),
            )

    return run


def remove_cluster(database: Database) -> Callable[[], Awaitable[Any]]:
    return writing(database, lambda tx: clusters.remove_cluster(tx, "c", project_id="p"))


async def test_an_operation_ends_while_its_cluster_is_removed(database: Database, rows: Rows):
    first = await taken_operation(database)
    assert await finish(database, first, 1)() is not None
    second = await taken_operation(database)
    ended, removed = await rows.hold(
        "SELECT FROM release_revisions FOR UPDATE",
        {},
        finish(database, second, 2),
        remove_cluster(database),
    )
    assert (ended.id, removed) == (second, "c")
    assert await rows.run("SELECT FROM release_revisions WHERE cluster_id = 'c'") == []


async def test_an_operation_ends_after_its_cluster_was_removed(database: Database, rows: Rows):
    operation_id = await taken_operation(database)
    removed, ended = await rows.hold(
        "SELECT FROM cluster_watches FOR UPDATE", {}, remove_cluster(database), finish(database, operation_id, 1)
    )
    assert (ended.id, removed) == (operation_id, "c")
    (row,) = await rows.run("SELECT state FROM operations WHERE id = %(id)s", id=operation_id)
    assert row["state"] == "succeeded"


async def withdraw(tx: Transaction) -> None:
    await users.hold(tx, "u")
    await roles.remove_role(tx, user_id="u", project_id=None, role="admin")
    await users.end_tokens(tx, "u")


async def end_keys(tx: Transaction) -> None:
    await users.set_password(tx, "u", password_hash="new")
    await access_keys.disable_all(tx, "u")


@pytest.mark.parametrize(
    ("held", "changes"),
    [
        ("password_failures", [lambda tx: users.set_enabled(tx, "u", enabled=False), None]),
        ("password_failures", [lambda tx: users.set_password(tx, "u", password_hash="new"), None]),
        ("access_keys", [None, end_keys]),
        ("role_assignments", [withdraw, None]),
    ],
    ids=["disable", "password", "keys", "role"],
)
async def test_a_user_is_changed_while_it_is_removed(
    database: Database, rows: Rows, held: str, changes: list[Write | None]
):
    await rows.run(
        "INSERT INTO password_failures (user_id, address, failures, failed_at) VALUES ('u', 'a', 1, now())",
        "INSERT INTO access_keys (id, user_id, project_id, secret_sealed) VALUES ('k', 'u', 'p', '')",
        "INSERT INTO role_assignments (user_id, role) VALUES ('u', 'admin')",
    )
    writers = [writing(database, change or (lambda tx: users.remove_user(tx, "u"))) for change in changes]
    assert await rows.hold(f"SELECT FROM {held} FOR UPDATE", {}, *writers) == [None, None]
    assert await rows.run("SELECT FROM users WHERE id = 'u'") == []


async def test_a_repair_ends_while_its_operation_expires(database: Database, rows: Rows):
    operation_id = await taken_operation(database)
    async with database.transaction() as tx:
        assert await attempts.finish(
            tx, operation_id, attempt=1, state="failed", status_description="", revision=None, wrote_revision=False,
            keep_order=True,
        )  # fmt: skip
        await repairs.plan_repair(tx, operation_id, after_seconds=-1)
        repair = await repairs.take_repair(tx, lease_seconds=60)
    assert repair is not None

    async def expire(tx: Transaction) -> int:
        piece = await retention.expire_operations(tx, after=retention.START, ended_seconds_ago=-60, limit=10)
        return piece.deleted

    done = await rows.hold(
        "SELECT FROM repairs FOR UPDATE",
        {},
        writing(database, lambda tx: repairs.end_repair(tx, repair)),
        writing(database, expire),
    )
    assert done == [None, 1]


@pytest.mark.usefixtures("rows")
async def test_what_waits_in_a_circle_is_repeated(database: Database):
    met, ended, tries = asyncio.Barrier(2), asyncio.Event(), []

    def disable(first: str, second: str) -> Write:
        async def both(tx: Transaction) -> None:
            if first in tries:
                await ended.wait()  # who repeats at once may take the other's row again, and be in its way
            await projects.set_enabled(tx, first, enabled=False)
            tries.append(first)
            if len(tries) <= 2:
                await met.wait()
            await projects.set_enabled(tx, second, enabled=False)

        return both

    one, other = writing(database, disable("p", "q")), writing(database, disable("q", "p"))
    errors = [done for done in await asyncio.gather(one(), other(), return_exceptions=True) if done is not None]
    assert [type(error) for error in errors] == [TransactionConflict]
    answer = error_response(cast("TransactionConflict", errors[0]))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")

    async def repeated(change: Callable[[], Awaitable[Any]]) -> None:
        await retry_conflicts(change)()
        ended.set()

    tries.clear()
    await asyncio.gather(repeated(one), repeated(other))
    assert len(tries) == 3


async def test_what_conflicts_each_time_is_said_after_three_tries():
    tries = []

    @retry_conflicts
    async def write() -> None:
        tries.append(1)
        raise TransactionConflict("the same")

    with pytest.raises(TransactionConflict):
        await write()
    assert len(tries) == 3


@pytest.mark.usefixtures("rows")
async def test_a_request_whose_project_is_removed_meanwhile_says_so(database: Database):
    missing = new_install(f"p-{uuid.uuid4()}", "u")
    with pytest.raises(NotFound, match=r"was deleted at the same moment; nothing was written: Key \(project_id\)"):
        await accept(database, missing)

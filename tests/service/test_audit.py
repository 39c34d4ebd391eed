"""The audit is added to and nothing else, holds what happened once, and does not grow as fast as strangers like."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event
from sqlalchemy.exc import ProgrammingError

from pilothouse.auth.policy import ADMINISTRATOR
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.settings import AuditSettings
from pilothouse.store import audit as store
from pilothouse.store.audit import AuditFilter, AuditRow, Outcome, Somebody
from pilothouse.store.database import Database

SETTINGS = AuditSettings(stranger_kinds=5, user_kinds=8)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def domain() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def audit(database: Database, clock: Clock) -> Audit:
    return Audit(database, SETTINGS, monotonic=clock)


async def rows(database: Database, domain: str) -> list[AuditRow]:
    """Return the rows, the last written first: the tests' clock is not the one that dates them."""
    async with database.autocommit() as connection:
        found = await store.list_rows(connection, AuditFilter(), domain_id=domain, after=None, limit=1000)
    return sorted(found, key=lambda row: row.id, reverse=True)


@pytest.fixture
def writer(superuser: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """Yield a role as an installation may have it for the application: all rights to rows, and it owns nothing."""
    role = sql.Identifier(f"app_{uuid.uuid4().hex[:8]}")
    superuser.execute(sql.SQL("CREATE ROLE {}").format(role))
    superuser.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON audit TO {}").format(role))
    superuser.execute(sql.SQL("GRANT USAGE ON SEQUENCE audit_id_seq TO {}").format(role))
    try:
        superuser.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(role))
        yield superuser
    finally:
        superuser.execute("RESET SESSION AUTHORIZATION")
        superuser.execute(sql.SQL("DROP OWNED BY {}").format(role))
        superuser.execute(sql.SQL("DROP ROLE {}").format(role))


INSERT = (
    "INSERT INTO audit (at, project_id, user_id, action, target, request_id)"
    " VALUES (now() - %s::interval, '', '', '', %s, '')"
)
UPSERT = (
    "INSERT INTO audit (id, project_id, user_id, action, target, request_id) SELECT id, '', '', '', '', '' FROM audit"
    " WHERE target = 'MARK' ON CONFLICT (id) DO UPDATE SET user_id = 'x'"
)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET user_id = 'somebody else'",
        "UPDATE audit SET at = at",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "MERGE INTO audit a USING (SELECT 1) one ON a.target = 'MARK' WHEN MATCHED THEN DELETE",
        UPSERT,
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "DROP TABLE audit",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE sql AS ''",
    ],
)
def test_the_applications_role_changes_and_deletes_nothing(writer: psycopg.Connection, change: str):
    mark = uuid.uuid4().hex
    writer.execute(INSERT, ["40 days", mark])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute(change.replace("MARK", mark).encode())
    assert writer.execute("SELECT count(*) FROM audit WHERE target = %s", [mark]).fetchone() == (1,)


@pytest.mark.parametrize("change", ["UPDATE audit SET user_id = ''", "DELETE FROM audit", "TRUNCATE audit"])
def test_neither_does_the_owner_by_mistake(database: Database, change: str):
    with psycopg.connect(database.dsn(), autocommit=True) as owner:
        owner.execute(INSERT, ["40 days", "old"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            owner.execute(change.encode())


def test_the_applications_role_forgets_what_is_old_and_never_the_last_day(writer: psycopg.Connection):
    young, old = uuid.uuid4().hex, uuid.uuid4().hex
    writer.execute(INSERT, ["23 hours", young])
    writer.execute(INSERT, ["25 hours", old])
    # of all rows: other tests left younger ones with smaller numbers
    writer.execute("SELECT expire_audit(0, 0, 1000000)")
    left = writer.execute("SELECT target FROM audit WHERE target IN (%s, %s)", [young, old]).fetchall()
    assert left == [(young,)]
    writer.execute("SET pilothouse.audit_retention = 'on'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.execute("DELETE FROM audit")


async def test_the_same_again_is_one_row_and_then_one_a_minute_with_its_number(
    database: Database, audit: Audit, clock: Clock, domain: str
):
    who = Somebody(user_id="u", user_name="bob", domain_id=domain, source="192.0.2.1")

    def fail(times: int) -> None:
        for _ in range(times):
            audit.note(who, "iam:tokens:create", outcome=Outcome.FAILED, target="u", target_name="bob", detail="wrong")

    fail(3)
    await audit.write()
    fail(40)
    clock.now += 59
    await audit.write()
    assert [row.times for row in await rows(database, domain)] == [3]
    clock.now += 1
    await audit.write()
    assert [row.times for row in await rows(database, domain)] == [40, 3]
    fail(2)
    await audit.write(all_of_it=True)
    found = await rows(database, domain)
    assert [row.times for row in found] == [2, 40, 3]
    assert {(row.user_name, row.source, row.target_name, row.outcome) for row in found} == {
        ("bob", "192.0.2.1", "bob", "failed")
    }


async def test_a_row_is_dated_when_it_first_happened(database: Database, audit: Audit, clock: Clock, domain: str):
    audit.note(Somebody(domain_id=domain), "a")
    clock.now += 30
    await audit.write()
    [row] = await rows(database, domain)
    age = (await database.now() - row.at).total_seconds()
    assert 30 <= age < 60


async def test_strangers_from_everywhere_make_a_few_rows_a_minute_and_push_out_no_users(
    database: Database, audit: Audit, clock: Clock, domain: str
):
    for number in range(3000):
        who = Somebody(domain_id=domain, source=f"10.{number // 250}.0.{number % 250}")
        audit.note(who, "iam:tokens:create", outcome=Outcome.FAILED, detail="unknown user")
    user = Somebody(user_id="u", domain_id=domain)
    audit.note(user, "cce:chart:upload", outcome=Outcome.DENIED)
    await audit.write()
    found = await rows(database, domain)
    failed = [row for row in found if row.outcome == "failed"]
    assert len(failed) == 6
    assert sum(row.times for row in failed) == 3000
    assert [row.detail for row in failed if not row.source] == ["more than are told apart"]
    assert [row.user_id for row in found if row.outcome == "denied"] == ["u"]
    clock.now += 61
    audit.note(Somebody(domain_id=domain, source="192.0.2.9"), "iam:tokens:create", outcome=Outcome.FAILED)
    await audit.write()
    assert (await rows(database, domain))[0].source == "192.0.2.9"


async def test_one_users_reads_do_not_hide_anothers(database: Database, audit: Audit, domain: str):
    for number in range(500):
        audit.note(Somebody(user_id="a", domain_id=domain), "read", target=str(number), often=True)
    audit.note(Somebody(user_id="b", domain_id=domain), "read", target="7", often=True)
    await audit.write()
    found = await rows(database, domain)
    assert len([row for row in found if row.user_id == "a"]) == 9
    assert len([row for row in found if row.user_id == "b"]) == 1
    assert sum(row.times for row in found) == 501


async def test_what_could_not_be_written_is_written_later_and_counted_once(
    database: Database, audit: Audit, domain: str
):
    audit.note(Somebody(domain_id=domain), "a")
    with psycopg.connect(database.dsn(), autocommit=True) as owner:
        owner.execute("ALTER TABLE audit RENAME TO audit_away")
        try:
            with pytest.raises(ProgrammingError, match="audit"):
                await audit.write()
        finally:
            owner.execute("ALTER TABLE audit_away RENAME TO audit")
    await audit.write()
    assert [row.times for row in await rows(database, domain)] == [1]


async def test_accounts_are_walled_off_and_every_filter_narrows(database: Database, domain: str):
    async with database.transaction() as tx:
        for number in range(6):
            who = Somebody(
                user_id=f"id-{number % 2}",
                user_name=f"user-{number % 2}",
                domain_id=domain,
                project_id="p-1",
                project_name="one",
                source=f"192.0.2.{number % 3}",
            )
            await store.record(
                tx, who, f"cce:chart:{number}", target=f"t-{number}", target_name=f"name-{number}", request_id="r"
            )
        await store.record(tx, Somebody(domain_id="another"), "cce:chart:1", target="t-1", request_id="r")

    async def count(**filters: str) -> int:
        criteria = AuditFilter(**filters)  # type: ignore[arg-type]
        async with database.autocommit() as connection:
            return len(await store.list_rows(connection, criteria, domain_id=domain, after=None, limit=100))

    assert await count() == 6
    assert await count(user="id-1") == await count(user="user-1") == 3
    assert await count(project="one") == await count(project="p-1") == 6
    assert await count(action="cce:chart:1") == 1
    assert await count(action="cce:*") == 6
    assert await count(action="cce:%*") == await count(action="*x") == await count(action="c_e:*") == 0
    assert await count(target="t-3") == await count(target="name-3") == 1
    assert await count(source="192.0.2.1") == 2
    assert await count(outcome=Outcome.FAILED) == 0


def administrator(domain: str) -> Caller:
    everything = frozenset({ADMINISTRATOR})
    return Caller("u", "admin", domain, "account", "", roles=everything, account_roles=everything)


#: Rows that are written now, each of something that happened so many seconds before a time.
WRITE = (
    "INSERT INTO audit (at, domain_id, target, project_id, user_id, action, request_id)"
    " SELECT %s - age * interval '1 second', %s, age, '', '', '', '' FROM unnest(%s::integer[]) AS ages (age)"
)


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_pages_are_one_list_by_time_whatever_is_written_meanwhile(
    database: Database, audit: Audit, domain: str, limit: int, seed: int
):
    """Rows are written in any order of their times, several of one time, and before each page again."""
    chance, moment = Random(seed), datetime.now(UTC)  # noqa: S311 (any order does)
    seen: list[AuditRow] = []
    place = None
    with psycopg.connect(database.dsn(), autocommit=True) as owner:

        def write(count: int) -> None:
            owner.execute(WRITE, [moment, domain, [chance.randrange(10) for _ in range(count)]])

        write(20)
        before = {row.id for row in await rows(database, domain)}
        while True:
            page = await audit.list_rows(administrator(domain), AuditFilter(), after=place, limit=limit)
            assert len(page.rows) == limit or page.next is None
            seen += page.rows
            place = page.next
            if place is None:
                break
            if len(seen) < 60:  # else the reader might never come to an end
                write(2)
    order = [(row.at, row.id) for row in seen]
    assert order == sorted(set(order), reverse=True)
    assert before <= {row.id for row in seen}


async def test_a_page_goes_on_though_the_row_before_it_has_been_forgotten(
    database: Database, audit: Audit, superuser: psycopg.Connection, domain: str
):
    with psycopg.connect(database.dsn(), autocommit=True) as owner:
        owner.execute(WRITE, [datetime.now(UTC), domain, list(range(6))])
    page = await audit.list_rows(administrator(domain), AuditFilter(), after=None, limit=3)
    assert [row.target for row in page.rows] == ["0", "1", "2"]
    with superuser.transaction():
        superuser.execute("SET LOCAL session_replication_role = replica")  # it is younger than what is forgotten
        superuser.execute("DELETE FROM audit WHERE id = %s", [page.rows[-1].id])
    rest = await audit.list_rows(administrator(domain), AuditFilter(), after=page.next, limit=3)
    assert ([row.target for row in rest.rows], rest.next) == (["3", "4", "5"], None)


async def test_a_removed_cluster_is_found_by_its_name_without_reading_the_whole_audit(database: Database, domain: str):
    with psycopg.connect(database.dsn(), autocommit=True) as owner:
        owner.execute(WRITE, [datetime.now(UTC), domain, list(range(4000))])
        owner.execute(
            "INSERT INTO audit (domain_id, project_id, user_id, action, target, target_name, request_id)"
            " VALUES (%(domain)s, '', '', 'cce:cluster:create', 'its-id', 'removed', ''),"
            " (%(domain)s, '', '', 'cce:release:delete', 'its-id/shop/web', 'web', '')",
            {"domain": domain},
        )
        owner.execute("ANALYZE audit")
    asked: list[tuple[str, Any]] = []
    async with database.autocommit() as connection:
        event.listen(
            connection.sync_connection, "before_cursor_execute", lambda *said: asked.append((said[2], said[3]))
        )
        found = await store.list_rows(
            connection, AuditFilter(cluster="removed"), domain_id=domain, after=None, limit=50
        )
    assert {row.target for row in found} == {"its-id/shop/web", "its-id"}
    ((statement, parameters),) = asked
    with psycopg.connect(database.dsn(), autocommit=True) as owner:
        explained = owner.execute(f"EXPLAIN {statement}", parameters).fetchall()
    plan = "\n".join(line for (line,) in explained)
    assert "ix_audit_about_clusters" in plan, plan
    assert "Seq Scan on audit" not in plan, plan


async def test_a_page_of_a_long_audit_reads_its_own_rows_alone(database: Database, domain: str):
    with psycopg.connect(database.dsn(), autocommit=True) as owner:
        for account in (domain, f"not-{domain}"):
            owner.execute(WRITE, [datetime.now(UTC), account, list(range(4000))])
        owner.execute("ANALYZE audit")
        place = (await rows(database, domain))[500]
        plan = owner.execute(
            "EXPLAIN (FORMAT JSON) SELECT * FROM audit WHERE domain_id = %s AND (at, id) < (%s, %s)"
            " ORDER BY at DESC, id DESC LIMIT 50",
            [domain, place.at, place.id],
        ).fetchone()
    assert plan is not None
    scan = plan[0][0]["Plan"]["Plans"][0]
    assert (scan["Node Type"], scan["Index Name"], "Filter" in scan) == ("Index Scan", "ix_audit_by_time", False)

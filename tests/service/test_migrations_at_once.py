"""Two programs that migrate one database at the same time, as two machines that start together."""

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pilothouse.store import migration
from pilothouse.store.database import Database
from pilothouse.store.schema_revision import needed_revision
from tests.support.databases import drop_database
from tests.support.fleets import run_command
from tests.support.servers import open_folder, wait_for

_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = %s"


@pytest.fixture
def empty(database_url: str) -> Iterator[str]:
    """Yield the address of a database without any table."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            url = Database(database_url).url.set(drivername="postgresql", database=name)
            yield url.render_as_string(hide_password=False)
        finally:
            drop_database(connection, name)


@pytest.fixture
def environment(empty: str) -> Iterator[dict[str, str]]:
    with open_folder() as folder:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")}
        yield inherited | {"PILOTHOUSE_DATABASE_URL": empty, "PILOTHOUSE_DATA_DIR": str(folder / "data")}


def test_one_migrates_and_the_other_waits_and_finds_it_done(empty: str, environment: dict[str, str]):
    with psycopg.connect(empty, autocommit=True) as third, ThreadPoolExecutor(2) as threads:
        (oid,) = third.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone() or (0,)
        third.execute("SELECT pg_advisory_lock(%s)", [migration._LOCK])
        said = [threads.submit(run_command, "migrate", environment) for _ in range(2)]
        # both stand before the same door, and nothing was made by either
        wait_for(lambda: third.execute(_WAITING, [oid]).fetchone() == (2,), seconds=60)
        assert third.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        third.execute("SELECT pg_advisory_unlock(%s)", [migration._LOCK])

        assert {one.result(120) for one in said} == {
            f"migrated the database from schema nothing to {needed_revision()}\n",
            f"the database is already at schema {needed_revision()}\n",
        }
        assert third.execute("SELECT version_num FROM alembic_version").fetchall() == [(needed_revision(),)]


def test_one_that_dies_halfway_leaves_nothing_to_the_other(empty: str, environment: dict[str, str]):
    with psycopg.connect(empty, autocommit=True) as third, ThreadPoolExecutor(2) as threads:
        (oid,) = third.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone() or (0,)
        # a table of the same name that is not committed yet: whoever migrates stops in the middle of it
        blocker = psycopg.connect(empty)
        blocker.execute("CREATE TABLE operations ()")
        said = [threads.submit(run_command, "migrate", environment) for _ in range(2)]
        halfway = """
            SELECT holder.pid FROM pg_locks holder JOIN pg_locks held USING (pid)
            WHERE holder.locktype = 'advisory' AND holder.granted AND holder.database = %s AND NOT held.granted"""
        wait_for(lambda: third.execute(_WAITING, [oid]).fetchone() == (1,), seconds=60)
        wait_for(lambda: third.execute(halfway, [oid]).fetchone() is not None, seconds=60)
        third.execute("SELECT pg_terminate_backend(%s)", third.execute(halfway, [oid]).fetchone())
        wait_for(lambda: third.execute(_WAITING, [oid]).fetchone() == (0,), seconds=60)
        blocker.rollback()
        blocker.close()

        ends = [one.exception(120) for one in said]
        assert sorted(str(end) == "None" for end in ends) == [False, True]
        assert any("PostgreSQL does not answer" in str(end) for end in ends)
        assert third.execute("SELECT version_num FROM alembic_version").fetchall() == [(needed_revision(),)]

"""A PostgreSQL of our own for tests below the API, with the schema in place."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.settings import PostgresSettings
from pilothouse.store.database import Database
from pilothouse.store.migration import migrate
from tests.support.databases import drop_database
from tests.support.servers import open_folder
from tests.support.supervised import Supervised


@pytest.fixture(scope="session")
def database_folder() -> Iterator[Path]:
    """Yield the data folder of ``database_url``."""
    with open_folder() as folder:
        yield folder / "data"


@pytest.fixture(scope="session")
def database_url(database_folder: Path) -> Iterator[str]:
    """Yield the address of a migrated database, for its owner; stopped at the end."""
    postgres = EmbeddedPostgres(PostgresSettings(), data_dir=database_folder)
    url = postgres.start()
    try:
        migrate(Database(url))
        yield url
    finally:
        postgres.stop()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Yield a pool of connections to it."""
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def superuser(database_url: str, database_folder: Path) -> Iterator[psycopg.Connection]:
    """PostgreSQL's own administrator in that database, who can make roles."""
    password = (database_folder / "postgres-superuser.password").read_text().strip()
    url = Database(database_url).url.set(drivername="postgresql", username="postgres", password=password)
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def migrated_once(database_url: str) -> str:
    """Return the name of a migrated database that nobody uses; copied, because to migrate takes longer than a test."""
    name = f"migrated_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    migrate(Database(_address(database_url, name)))
    return name


@pytest.fixture
def own_database_url(database_url: str, migrated_once: str) -> Iterator[str]:
    """Yield the address of a migrated database with nothing of other tests in it; dropped at the end."""
    name = f"own_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{migrated_once}"')
        try:
            yield _address(database_url, name)
        finally:
            drop_database(connection, name)


def _address(database_url: str, name: str) -> str:
    url = Database(database_url).url.set(drivername="postgresql", database=name)
    return url.render_as_string(hide_password=False)


@pytest.fixture
async def own_database(own_database_url: str) -> AsyncIterator[Database]:
    """Yield a pool of connections to it."""
    opened = Database(own_database_url)
    yield opened
    await opened.close()


@pytest.fixture
def projects(database: Database) -> Iterator[tuple[str, str]]:
    """Yield the ids of two projects; there are no operations."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("DELETE FROM operations")
        connection.execute("INSERT INTO domains (id, name) VALUES ('two', 'two')")
        for name in ("busy", "quiet"):
            connection.execute("INSERT INTO projects (id, domain_id, name) VALUES (%s, 'two', %s)", [name, name])
        yield "busy", "quiet"
        connection.execute("DELETE FROM operations")
        connection.execute("DELETE FROM clusters WHERE project_id IN ('busy', 'quiet')")
        connection.execute("DELETE FROM plans WHERE project_id IN ('busy', 'quiet')")
        connection.execute("DELETE FROM projects WHERE domain_id = 'two'")
        connection.execute("DELETE FROM domains WHERE id = 'two'")


@pytest.fixture
def supervise() -> Iterator[Callable[..., Supervised]]:
    running: list[Supervised] = []

    def start(*specs: dict[str, Any]) -> Supervised:
        running.append(Supervised(list(specs)))
        return running[-1]

    yield start
    for supervised in running:
        if supervised.process.poll() is None:
            supervised.process.terminate()
            supervised.process.terminate()
            supervised.process.wait(timeout=20)
        assert supervised.process.stdout is not None
        supervised.process.stdout.close()

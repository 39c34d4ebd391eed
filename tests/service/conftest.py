"""A PostgreSQL of our own for tests below the API, with the schema in place."""

from collections.abc import AsyncIterator, Iterator

import pytest

from pilothouse.settings import PostgresSettings
from pilothouse.store.database import Database
from pilothouse.store.migration import migrate
from pilothouse.store.postgres import EmbeddedPostgres
from tests.support.servers import open_folder


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """The address of a migrated database; stopped at the end."""
    with open_folder() as folder:
        postgres = EmbeddedPostgres(PostgresSettings(), data_dir=folder / "data")
        url = postgres.start()
        try:
            migrate(Database(url))
            yield url
        finally:
            postgres.stop()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool of connections to it."""
    opened = Database(database_url)
    yield opened
    await opened.close()

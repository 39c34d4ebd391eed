"""Database access of commands that run next to the servers, or without them."""

from collections.abc import Iterator
from contextlib import contextmanager

from pilothouse.cli.logs import configure_quiet_logs
from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.errors import DatabaseUnavailable
from pilothouse.settings import Settings
from pilothouse.store.database import Database
from pilothouse.store.migration import current_schema
from pilothouse.store.schema_revision import needed_revision


@contextmanager
def reachable_database(settings: Settings, *, may_create: bool = False) -> Iterator[str]:
    """Yield the address of the configured database, or of the embedded one, which is started if necessary.

    Raises DatabaseUnavailable, also for an embedded database that does not exist, unless ``may_create``.
    """
    configure_quiet_logs(settings)
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    postgres = EmbeddedPostgres(settings.postgres, data_dir=settings.data_dir)
    running = postgres.running_url()
    if running is not None:
        yield running
        return
    if not may_create and not postgres.exists():
        raise DatabaseUnavailable(
            f"there is no database in {settings.data_dir}: set PILOTHOUSE_DATA_DIR to the server's, or "
            "PILOTHOUSE_DATABASE_URL; 'pilothouse serve' creates a new one"
        )
    try:
        yield postgres.start()
    finally:
        postgres.stop()


def check_schema(url: str) -> None:
    """Return if this program runs on the schema of the database; else DatabaseUnavailable says what to run."""
    found = current_schema(Database(url))
    if found.problem:
        raise DatabaseUnavailable(
            f"the database is at schema {found.revision or 'nothing'} and this Pilothouse needs {needed_revision()}: "
            + ("use the version that migrated it, or a later one" if found.is_newer else "run 'pilothouse migrate'")
        )

"""Migration of a database to the schema of this program."""

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store.database import Database

#: Any constant; two programs that start at once must not migrate at once.
_LOCK = 7_430_118_226


def _configuration(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    """Return the schema revision that this program needs."""
    head = ScriptDirectory.from_config(_configuration(None)).get_current_head()
    if head is None:
        raise RuntimeError("the package has no migrations: its build is broken")
    return head


def migrate_on(connection: Connection, revision: str) -> None:
    """Migrate the connection's database to a revision, in its transaction.

    Raises DatabaseUnavailable for a revision that this program does not know.
    """
    known = {script.revision for script in ScriptDirectory.from_config(_configuration(None)).walk_revisions()}
    if revision != "head" and revision not in known:
        raise DatabaseUnavailable(f"schema {revision} is from a newer Pilothouse; use that version, or a later one")
    command.upgrade(_configuration(connection), revision)


def current_revision(database: Database) -> str | None:
    """Return the schema revision of the database, None for an empty one; raise DatabaseUnavailable."""
    engine = create_engine(database.url, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except (OperationalError, psycopg.OperationalError) as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {error}") from error
    finally:
        engine.dispose()


def migrate(database: Database) -> tuple[str | None, str]:
    """Apply missing migrations, one program at a time; return the revisions before and after.

    Raises DatabaseUnavailable if the database cannot be reached or was migrated by a newer Pilothouse.
    """
    engine = create_engine(database.url, connect_args={"connect_timeout": 10})
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            before = MigrationContext.configure(connection).get_current_revision()
            known = {script.revision for script in ScriptDirectory.from_config(_configuration(None)).walk_revisions()}
            if before is not None and before not in known:
                raise DatabaseUnavailable(
                    f"the database is at schema {before}, which this Pilothouse does not know: "
                    "it was migrated by a newer one; start that version, or restore a backup"
                )
            command.upgrade(_configuration(connection), "head")
            after = MigrationContext.configure(connection).get_current_revision()
    except (OperationalError, psycopg.OperationalError) as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {error}") from error
    finally:
        engine.dispose()
    return before, str(after)

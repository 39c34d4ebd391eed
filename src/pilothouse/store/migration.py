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
from sqlalchemy.schema import SetColumnComment

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store.database import Database
from pilothouse.store.schema_revision import FIND_OLDEST, Schema
from pilothouse.store.tables import metadata

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


def _write_comments(connection: Connection) -> None:
    """Write the comments of columns, which stand in ``tables`` only, and not in the migrations."""
    for column in (column for table in metadata.sorted_tables for column in table.columns if column.comment):
        connection.execute(SetColumnComment(column))


def current_revision(database: Database) -> str | None:
    """Return the schema revision of the database, None for an empty one; raise DatabaseUnavailable."""
    return current_schema(database).revision or None


def current_schema(database: Database) -> Schema:
    """Return the schema of the database; raise DatabaseUnavailable."""
    engine = create_engine(database.url, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            return _schema(connection)
    except (OperationalError, psycopg.OperationalError) as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {error}") from error
    finally:
        engine.dispose()


def _schema(connection: Connection) -> Schema:
    found = Schema(MigrationContext.configure(connection).get_current_revision() or "")
    if not found.is_newer:
        return found
    return Schema(found.revision, connection.execute(FIND_OLDEST).scalar_one() or "")


def migrate(database: Database) -> tuple[str | None, str]:
    """Apply missing migrations, one program at a time; return the revisions before and after.

    Nothing is done to a newer schema on which this program runs. Raises DatabaseUnavailable for another newer one, and
    if the database cannot be reached.
    """
    engine = create_engine(database.url, connect_args={"connect_timeout": 10})
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            found = _schema(connection)
            before = found.revision or None
            if found.is_newer:
                if found.problem:
                    raise DatabaseUnavailable(
                        f"the database is at schema {before}, which this Pilothouse does not know: "
                        "it was migrated by a newer one; start that version, or restore a backup"
                    )
                return before, found.revision
            command.upgrade(_configuration(connection), "head")
            after = MigrationContext.configure(connection).get_current_revision()
            if after != before:
                _write_comments(connection)
    except (OperationalError, psycopg.OperationalError) as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {error}") from error
    finally:
        engine.dispose()
    return before, str(after)

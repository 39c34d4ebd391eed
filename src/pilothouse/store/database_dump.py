"""Dump of a whole database: rows per table, read from one snapshot and restored in one transaction.

The format is PostgreSQL's COPY text: it does not depend on the server's version, needs none of its programs, and comes
with the schema revision, so that a newer Pilothouse can load a dump at the old schema and migrate it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from pilothouse.errors import DatabaseUnavailable, InvalidBackup
from pilothouse.store.database import Database
from pilothouse.store.migration import migrate_on
from pilothouse.store.sealed import SUFFIX
from pilothouse.store.tables import audit, metadata, schema_compatibility

SealedCheck = Callable[[str, bytes], None]

_VERSION_TABLE: Final = "alembic_version"
_TABLES: Final = """
    SELECT c.relname, array_agg(a.attname ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attgenerated = '' AND c.relname NOT IN ('alembic_version', 'schema_compatibility')
    GROUP BY c.relname ORDER BY c.relname"""
_REFERENCES: Final = """
    SELECT f.relname, t.relname FROM pg_constraint k JOIN pg_class f ON f.oid = k.conrelid
    JOIN pg_class t ON t.oid = k.confrelid
    WHERE k.contype = 'f' AND k.connamespace = current_schema()::regnamespace AND f.oid <> t.oid"""
_SEQUENCES: Final = """
    SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = current_schema() AND last_value IS NOT NULL"""
_SERVERS: Final = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pilothouse'"""


@dataclass(frozen=True)
class CopiedTable:
    """One table and its columns, in the order of the rows."""

    name: str
    columns: list[str]


@dataclass(frozen=True)
class Contents:
    """Metadata of a dump: tables, referenced ones first, and the positions of sequences."""

    revision: str
    tables: list[CopiedTable]
    sequences: dict[str, int]


class Snapshot:
    """A consistent snapshot of the database."""

    def __init__(self, connection: psycopg.Connection, contents: Contents) -> None:
        self._connection = connection
        self.contents = contents

    def read_rows(self, table: CopiedTable, write: Callable[[bytes], object]) -> None:
        """Pass the table to ``write`` in COPY's text format, in pieces."""
        with self._connection.cursor() as cursor, cursor.copy(_copy(table, "TO STDOUT")) as copy:
            for piece in copy:
                write(bytes(piece))

    def check_sealed(self, size: int, check: SealedCheck) -> int:
        """Pass the location and first bytes of each sealed value to ``check``; return their number."""
        return _check_sealed(self._connection, self.contents.tables, size, check)


@contextmanager
def snapshot(database: Database) -> Iterator[Snapshot]:
    """Open a snapshot of all committed data, while others write; raise DatabaseUnavailable."""
    try:
        with psycopg.connect(database.dsn(), connect_timeout=5, application_name="pilothouse-backup") as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield Snapshot(connection, _contents(connection))
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer, or broke off: {error}") from error


@contextmanager
def replacement(database: Database, contents: Contents, *, replace: bool) -> Iterator["Replacement"]:
    """Open a transaction that replaces the database with a dump, completely or not at all.

    Raises DatabaseUnavailable, and InvalidBackup if servers use the database, if it holds rows and ``replace`` is not
    set, or for a dump that does not match.
    """
    engine = create_engine(database.url, connect_args={"connect_timeout": 5, "application_name": "pilothouse-restore"})
    try:
        with engine.begin() as connection:
            driver = connection.connection.driver_connection
            if not isinstance(driver, psycopg.Connection):
                raise TypeError("SQLAlchemy gave a connection of another driver")
            driver.execute("SET LOCAL lock_timeout = '10s'")
            _refuse_servers(driver)
            _empty(driver, [table.name for table in contents.tables], replace=replace)
            migrate_on(connection, contents.revision)
            for table in contents.tables:
                # What a migration put in. The audit refuses to be emptied, and is: no migration writes to it.
                if table.name != audit.name:
                    driver.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.Identifier(table.name)))
            yield Replacement(driver, contents)
            migrate_on(connection, "head")
    except (OperationalError, psycopg.OperationalError) as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer, or broke off: {error}") from error
    except psycopg.Error as error:
        raise InvalidBackup(f"the dump does not match the database: {str(error).splitlines()[0]}") from error
    finally:
        engine.dispose()


class Replacement:
    """The transaction of ``replacement``."""

    def __init__(self, connection: psycopg.Connection, contents: Contents) -> None:
        self._connection = connection
        self._contents = contents

    def load(self, table: CopiedTable, rows: Iterable[bytes]) -> None:
        """Load one table; call it in the order of the contents."""
        with self._connection.cursor() as cursor, cursor.copy(_copy(table, "FROM STDIN")) as copy:
            for piece in rows:
                copy.write(piece)

    def set_sequences(self) -> None:
        """Set the sequences to their positions in the dump."""
        for name, value in self._contents.sequences.items():
            self._connection.execute("SELECT setval(quote_ident(%s)::regclass, %s)", [name, value])

    def check_sealed(self, size: int, check: SealedCheck) -> int:
        """Pass the location and first bytes of each sealed value to ``check``; return their number."""
        return _check_sealed(self._connection, self._contents.tables, size, check)


def _contents(connection: psycopg.Connection) -> Contents:
    tables = {name: CopiedTable(name, columns) for name, columns in connection.execute(_TABLES).fetchall()}
    order: TopologicalSorter[str] = TopologicalSorter({name: set() for name in tables})
    for referring, referred in connection.execute(_REFERENCES).fetchall():
        order.add(referring, referred)
    version = connection.execute(sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(_VERSION_TABLE)))
    found = version.fetchone()
    if found is None:
        raise DatabaseUnavailable("the database has no schema: run 'pilothouse migrate'")
    sequences = {str(name): int(value) for name, value in connection.execute(_SEQUENCES).fetchall()}
    return Contents(str(found[0]), [tables[name] for name in order.static_order()], sequences)


def _copy(table: CopiedTable, direction: str) -> sql.Composed:
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in table.columns)
    return sql.SQL("COPY {} ({}) " + direction).format(sql.Identifier(table.name), columns)


# Handed over, and not generated: a generator left half-way holds the connection's lock, and its end waits for ever.
def _check_sealed(connection: psycopg.Connection, tables: Sequence[CopiedTable], size: int, check: SealedCheck) -> int:
    number = 0
    for table in tables:
        for column in (name for name in table.columns if name.endswith(SUFFIX)):
            query = sql.SQL("SELECT substring({column}, 1, %s) FROM {table} WHERE {column} IS NOT NULL").format(
                column=sql.Identifier(column), table=sql.Identifier(table.name)
            )
            with connection.cursor() as cursor:
                for (head,) in cursor.stream(query, [size]):
                    check(f"{table.name}.{column}", bytes(head))
                    number += 1
    return number


def _refuse_servers(connection: psycopg.Connection) -> None:
    found = connection.execute(_SERVERS).fetchone()
    if found is not None and found[0]:
        raise InvalidBackup("Pilothouse servers use this database: stop them first ('pilothouse serve', api, worker)")


def _empty(connection: psycopg.Connection, names: Sequence[str], *, replace: bool) -> None:
    """Drop the tables of this program and of the dump; other tables in the database are kept."""
    ours = {*metadata.tables, *names}
    present = [name for (name, _) in connection.execute(_TABLES).fetchall() if name in ours]
    for name in present:
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(name))
        row = connection.execute(query).fetchone()
        if row is not None and row[0] and not replace:
            raise InvalidBackup(f"the database is not empty (table {name} has rows); --replace discards its content")
    for name in (*present, _VERSION_TABLE, schema_compatibility.name):  # migrations fill the last two
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(sql.Identifier(name)))

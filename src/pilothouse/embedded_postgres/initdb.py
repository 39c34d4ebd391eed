"""Creates the embedded database: the folder with initdb, then roles and database.

A kill can interrupt each step, and the next start finishes it: initdb works in a temporary folder that is renamed at
its end, and roles and database are checked at every start. There are three roles, each with its own password: the
superuser creates the others; the owner owns the tables, for migrations and commands; the application is used by API,
worker and observer (``database_grants`` has its grants).
"""

import contextlib
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
import structlog
from psycopg import sql

from pilothouse.embedded_postgres.account import Account
from pilothouse.embedded_postgres.layout import Layout, read_or_make_password
from pilothouse.errors import DatabaseUnavailable
from pilothouse.files import sync_folder
from pilothouse.store.application_role import APPLICATION

_SUPERUSER = "postgres"
#: The role that owns our database; it is no superuser, so that a hole in a query does not open the machine.
_OWNER = "pilothouse"
_DATABASE = "pilothouse"

_OWNER_FILE: Final = "postgres.password"
_SUPERUSER_FILE: Final = "postgres-superuser.password"
_APPLICATION_FILE: Final = "postgres-application.password"
_WRONG_PASSWORD: Final = "password authentication failed"  # noqa: S105 (PostgreSQL's words)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Passwords:
    """The password of each role, from files that only we can read."""

    superuser: str
    owner: str
    application: str


def read_or_make_passwords(data_dir: Path, *, may_make: bool) -> Passwords:
    """Return the passwords of the database; without ``may_make`` the owner's must exist.

    The superuser's and the application's are created for an older database that has none.
    """
    owner = read_or_make_password(data_dir / _OWNER_FILE, may_make=may_make)
    superuser = read_or_make_password(data_dir / _SUPERUSER_FILE, may_make=True)
    application = read_or_make_password(data_dir / _APPLICATION_FILE, may_make=True)
    return Passwords(superuser, owner, application)


def owner_password(data_dir: Path) -> str:
    """Return the owner's password of an existing database; raise DatabaseUnavailable if it is missing."""
    return read_or_make_password(data_dir / _OWNER_FILE, may_make=False)


def create_data_folder(
    layout: Layout, *, binaries: Path, account: Account, password: str, timeout_seconds: float
) -> None:
    """Create ``layout.data``, complete and durable, or raise DatabaseUnavailable with initdb's message."""
    for leftover in layout.root.glob("initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    began = time.monotonic()
    words = ""
    # Old systems lack C.UTF-8; with C, only upper and lower case outside ASCII differ.
    for locale in ("C.UTF-8", "C"):
        staging = Path(tempfile.mkdtemp(prefix="initdb-", dir=layout.root))
        secret = staging / "password"
        secret.touch(mode=0o600)
        secret.write_text(password + "\n")
        account.own(secret)
        account.own(staging)
        identity = ["-U", _SUPERUSER, f"--pwfile={secret}", "--auth=scram-sha-256"]
        form = ["--encoding=UTF8", f"--locale={locale}", "--data-checksums"]
        try:
            done = account.run(
                [binaries / "initdb", "-D", staging / "data", *identity, *form], timeout_seconds=timeout_seconds
            )
            if done.returncode == 0:
                (staging / "data").rename(layout.data)
                sync_folder(layout.root)
                _log.info("postgres_initialized", data=str(layout.data), seconds=round(time.monotonic() - began, 2))
                return
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        words = f"{done.stdout}{done.stderr}".strip()
        if "invalid locale name" not in words:
            break
    raise DatabaseUnavailable(f"initdb could not make a database in {layout.root} as {account.name}:\n{words}")


def ensure_database(socket_dir: Path, passwords: Passwords, *, timeout_seconds: int) -> None:
    """Create roles and database if they are missing, also if an earlier start was killed in between.

    Raises psycopg.Error, with the owner's name in it if the owner's password does not match.
    """
    with contextlib.closing(_superuser(socket_dir, passwords, timeout_seconds)) as connection:
        for role, password, rights in (
            (_OWNER, passwords.owner, "LOGIN CREATEDB"),
            (APPLICATION, passwords.application, "LOGIN"),
        ):
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
                connection.execute(
                    sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(
                        sql.Identifier(role), sql.SQL(rights), sql.Literal(password)
                    )
                )
        # The owner sees and ends the application's sessions: a restore looks whether servers use the database.
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(APPLICATION), sql.Identifier(_OWNER)))
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(_DATABASE), sql.Identifier(_OWNER))
            )
        _keep_password(connection, socket_dir, passwords.application, timeout_seconds)
    _connect(socket_dir, _OWNER, passwords.owner, timeout_seconds, database=_DATABASE).close()


def _superuser(socket_dir: Path, passwords: Passwords, timeout_seconds: int) -> psycopg.Connection:
    """Connect as superuser. Older databases gave it the owner's password: then set its own."""
    try:
        return _connect(socket_dir, _SUPERUSER, passwords.superuser, timeout_seconds)
    except psycopg.OperationalError as error:
        if _WRONG_PASSWORD not in str(error):
            raise
    try:
        connection = _connect(socket_dir, _SUPERUSER, passwords.owner, timeout_seconds)
    except psycopg.OperationalError as error:
        if _WRONG_PASSWORD not in str(error):
            raise
        raise DatabaseUnavailable(
            f"PostgreSQL's superuser takes neither the password in {_SUPERUSER_FILE} nor, as an older database would, "
            f"the one in {_OWNER_FILE}: restore the files that belong to this database"
        ) from error
    connection.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(_SUPERUSER), sql.Literal(passwords.superuser))
    )
    _log.info("postgres_superuser_password_changed")
    return connection


def _keep_password(connection: psycopg.Connection, socket_dir: Path, password: str, timeout_seconds: int) -> None:
    """Set the application's password to the one in its file, also if the file was lost and recreated."""
    try:
        _connect(socket_dir, APPLICATION, password, timeout_seconds, database=_DATABASE).close()
    except psycopg.OperationalError as error:
        if _WRONG_PASSWORD not in str(error):
            raise
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(APPLICATION), sql.Literal(password))
        )


def _connect(
    socket_dir: Path, role: str, password: str, timeout_seconds: int, *, database: str = "postgres"
) -> psycopg.Connection:
    return psycopg.connect(
        host=str(socket_dir),
        port=5432,
        user=role,
        password=password,
        dbname=database,
        connect_timeout=timeout_seconds,
        autocommit=True,
    )


def address(socket_dir: Path, password: str, *, role: str = _OWNER) -> str:
    """Return the libpq URL of our database for its owner or another role; psycopg and SQLAlchemy both accept it."""
    return f"postgresql://{role}:{password}@/{_DATABASE}?host={quote(str(socket_dir))}&port=5432"

"""Makes the embedded database: the folder by initdb, then our role and our database in it.

Each step can be cut off by a kill and is finished by the next start: initdb works in a temporary folder that is
renamed at its end, and the role and the database are looked for at every start.
"""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
import structlog
from psycopg import sql

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store.postgres_account import Account
from pilothouse.store.postgres_place import Place, sync_folder

_SUPERUSER = "postgres"
#: The role that owns our database; it is no superuser, so that a hole in a query does not open the machine.
_ROLE = "pilothouse"
_DATABASE = "pilothouse"

_log = structlog.get_logger(__name__)


def create_data_folder(
    place: Place, *, binaries: Path, account: Account, password: str, timeout_seconds: float
) -> None:
    """Makes ``place.data``, complete and durable, or raises DatabaseUnavailable with initdb's own words."""
    for leftover in place.root.glob("initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    began = time.monotonic()
    words = ""
    # Old systems lack C.UTF-8; with C, only upper and lower case outside ASCII differ.
    for locale in ("C.UTF-8", "C"):
        staging = Path(tempfile.mkdtemp(prefix="initdb-", dir=place.root))
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
                (staging / "data").rename(place.data)
                sync_folder(place.root)
                _log.info("postgres_initialized", data=str(place.data), seconds=round(time.monotonic() - began, 2))
                return
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        words = f"{done.stdout}{done.stderr}".strip()
        if "invalid locale name" not in words:
            break
    raise DatabaseUnavailable(f"initdb could not make a database in {place.root} as {account.name}:\n{words}")


def ensure_database(socket_dir: Path, password: str, *, timeout_seconds: int) -> None:
    """Our role and database exist afterwards, also when an earlier start was killed between the two."""
    with contextlib.closing(
        psycopg.connect(
            host=str(socket_dir),
            port=5432,
            user=_SUPERUSER,
            password=password,
            dbname="postgres",
            connect_timeout=timeout_seconds,
            autocommit=True,
        )
    ) as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [_ROLE]).fetchone() is None:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                    sql.Identifier(_ROLE), sql.Literal(password)
                )
            )
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(_DATABASE), sql.Identifier(_ROLE))
            )


def address(socket_dir: Path, password: str) -> str:
    """The libpq URL of our database for our role; psycopg and SQLAlchemy read it alike."""
    return f"postgresql://{_ROLE}:{password}@/{_DATABASE}?host={quote(str(socket_dir))}&port=5432"

"""Databases of a test's own."""

import time
from typing import Any

import psycopg
from psycopg import errors, sql

_SECONDS = 30.0


def drop_database(connection: "psycopg.Connection[Any]", name: str) -> None:
    """Drop the database with all that is connected to it; waits for PostgreSQL's own vacuum, which no owner may end."""
    until = time.monotonic() + _SECONDS
    while True:
        try:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        except errors.InsufficientPrivilege:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return

"""Whether a pooler between us and PostgreSQL leaves a connection its session.

Notifications (LISTEN), prepared statements and the time limits of a session belong to the session. A pooler that gives
each transaction another one (PgBouncer with ``pool_mode = transaction``) loses the first without a word, mixes up the
second, and gives the third to others. Locks would do: ours end with their transaction.
"""

from typing import Final

import psycopg

from pilothouse.errors import InvalidSettings
from pilothouse.store.database import Database

#: Between two looks another client may have taken the session that we had.
_LOOKS: Final = 5
SESSION_NEEDED: Final = (
    "the database address leads to a pooler that gives each transaction another session (PgBouncer: pool_mode ="
    " transaction or statement); notifications, prepared statements and time limits would be lost"
)
ADVICE: Final = (
    "set pool_mode = session there, or connect to PostgreSQL itself (see 'Use your own PostgreSQL' in the"
    " documentation)"
)


def shares_sessions(url: str) -> bool:
    """Return True if two connections that are open at a time have one session, or one has several.

    False also if there is no connection: that is told by whoever needs one.
    """
    dsn = Database(url).dsn()
    try:
        with _connect(dsn) as first, _connect(dsn) as second:
            seen = [(_session(first), _session(second)) for _ in range(_LOOKS)]
    except psycopg.Error:
        return False
    return any(number == other for number, other in seen) or len(set(seen)) > 1


def refuse_shared_sessions(url: str) -> None:
    """Raise InvalidSettings for such a pooler."""
    if shares_sessions(url):
        raise InvalidSettings(f"{SESSION_NEEDED}: {ADVICE}")


def _connect(dsn: str) -> "psycopg.Connection[tuple[int]]":
    return psycopg.connect(dsn, autocommit=True, connect_timeout=5, prepare_threshold=None)


def _session(connection: "psycopg.Connection[tuple[int]]") -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row[0] if row is not None else 0

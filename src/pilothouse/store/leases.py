"""Renewal of leases over a dedicated connection, so that no other work delays it."""

import psycopg

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store.database import Database

_RENEW = """
UPDATE operations SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE id = %(id)s AND attempt = %(attempt)s AND state IN ('running', 'cancelling')
  AND lease_until > clock_timestamp()
RETURNING state
"""
# A lapsed one is put back by others, in the same attempt.
_LEFT = """
SELECT lease_until IS NULL AND lapsed_attempt IS DISTINCT FROM attempt FROM operations
WHERE id = %(id)s AND attempt = %(attempt)s
"""


class LeaseConnection:
    """One synchronous connection for one thread, opened on first use and again after it broke."""

    def __init__(self, database: Database, *, timeout_seconds: float) -> None:
        self._dsn = database.dsn()
        self._timeout = timeout_seconds
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def renew(self, operation_id: str, *, attempt: int, lease_seconds: float) -> str | None:
        """Extend the lease and return the operation's state: running or cancelling.

        Returns None if the attempt no longer holds the operation or its lease has expired; an expired lease is never
        renewed. Raises DatabaseUnavailable if no answer came in time.
        """
        row = self._ask(_RENEW, {"id": operation_id, "attempt": attempt, "lease": lease_seconds})
        return str(row[0]) if row else None

    def was_left(self, operation_id: str, *, attempt: int) -> bool:
        """Return True if the attempt itself has ended the operation or put it back: then there is nothing to renew.

        Raises DatabaseUnavailable if no answer came in time.
        """
        row = self._ask(_LEFT, {"id": operation_id, "attempt": attempt})
        return bool(row and row[0])

    def _ask(self, statement: str, params: dict[str, object]) -> tuple[object, ...] | None:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._dsn,
                    autocommit=True,
                    connect_timeout=max(2, int(self._timeout)),
                    tcp_user_timeout=int(self._timeout * 1000),
                )
                # not as an option of the connection, which a pooler refuses
                self._connection.execute(
                    "SELECT set_config('statement_timeout', %s, false)", [f"{int(self._timeout * 1000)}ms"]
                )
            return self._connection.execute(statement, params).fetchone()
        except psycopg.Error as error:
            self.close()
            raise DatabaseUnavailable(f"a lease could not be renewed: {error}") from error

    def close(self) -> None:
        """Close the connection; the next renewal opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

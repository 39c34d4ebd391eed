"""Grants of the database role of API, worker and observer: read and write rows, and append to the audit table.

The role owns no table: it cannot change the schema, disable a trigger, or undo what it wrote to the audit table. For
the embedded server ``grant_to_application`` runs at every start; for the operator's own PostgreSQL the same statements
are in docs/operations.md.
"""

from typing import Final

import psycopg
from psycopg import sql

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store.application_role import APPLICATION
from pilothouse.store.database import Database

_STATEMENTS: Final = (
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON alembic_version, schema_compatibility FROM {role}",
    "REVOKE UPDATE ON audit FROM {role}",
)
#: Rows are forgotten by this function alone, which has its owner's rights. A schema before it deletes by itself.
_FORGETS: Final = "SELECT FROM pg_proc WHERE proname = 'expire_audit' AND prosecdef"
_NO_DELETES: Final = "REVOKE DELETE ON audit FROM {role}"


def grant_to_application(database: Database) -> None:
    """Grant the role its rights to the existing tables; call it as their owner, after a migration."""
    role = sql.Identifier(APPLICATION)
    try:
        with psycopg.connect(database.dsn(), connect_timeout=10) as connection:
            forgets = connection.execute(_FORGETS).fetchone() is not None
            for statement in (*_STATEMENTS, *([_NO_DELETES] if forgets else [])):
                connection.execute(sql.SQL(statement).format(role=role))
    except psycopg.Error as error:
        raise DatabaseUnavailable(f"cannot grant the application's role its rights: {error}") from error

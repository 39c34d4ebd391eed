"""The embedded database has three roles, and the one that serves requests can only work with rows."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.errors import DatabaseUnavailable
from pilothouse.settings import PostgresSettings
from pilothouse.store.database import Database
from pilothouse.store.database_grants import grant_to_application
from pilothouse.store.migration import migrate
from tests.support.servers import RunningServer, open_folder, run_server

_SESSIONS = (
    "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'pilothouse' AND pid <> pg_backend_pid()"
)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder / "data"


@pytest.fixture
def postgres(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(PostgresSettings(), data_dir=data_dir)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def application() -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """Yield a session of the application's role in a database with the schema."""
    with open_folder() as folder:
        postgres = EmbeddedPostgres(PostgresSettings(), data_dir=folder / "data")
        database = Database(postgres.start())
        try:
            migrate(database)
            grant_to_application(database)
            with psycopg.connect(postgres.application_url, autocommit=True) as connection:
                yield connection
        finally:
            postgres.stop()


def as_role(url: str, role: str, password: str, database: str = "postgres") -> str:
    return (
        Database(url)
        .url.set(drivername="postgresql", username=role, password=password, database=database)
        .render_as_string(hide_password=False)
    )


def test_each_role_has_a_password_of_its_own(postgres: EmbeddedPostgres, data_dir: Path):
    url = postgres.start()
    files = {role: data_dir / f"postgres{end}.password" for role, end in _FILES.items()}
    passwords = {role: file.read_text().strip() for role, file in files.items()}
    assert len(set(passwords.values())) == 3
    assert {file.stat().st_mode & 0o777 for file in files.values()} == {0o600}
    for role in passwords:
        for whose, password in passwords.items():
            if whose == role:
                psycopg.connect(as_role(url, role, password)).close()
            else:
                with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                    psycopg.connect(as_role(url, role, password))


_FILES = {"postgres": "-superuser", "pilothouse": "", "pilothouse_application": "-application"}


def test_an_older_database_gets_its_passwords_and_roles_at_the_next_start(postgres: EmbeddedPostgres, data_dir: Path):
    url = postgres.start()
    owner = (data_dir / "postgres.password").read_text().strip()
    superuser = as_role(url, "postgres", (data_dir / "postgres-superuser.password").read_text().strip())
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute("DROP ROLE pilothouse_application")
        connection.execute(f"ALTER ROLE postgres PASSWORD '{owner}'")
    postgres.stop()
    for end in ("-superuser", "-application"):
        (data_dir / f"postgres{end}.password").unlink()

    assert postgres.start() == url

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(as_role(url, "postgres", owner))
    psycopg.connect(postgres.application_url).close()
    psycopg.connect(as_role(url, "postgres", (data_dir / "postgres-superuser.password").read_text().strip())).close()


def test_a_lost_password_of_the_application_is_made_anew_and_one_of_the_superuser_is_told(
    postgres: EmbeddedPostgres, data_dir: Path
):
    postgres.start()
    postgres.stop()
    (data_dir / "postgres-application.password").unlink()
    postgres.start()
    psycopg.connect(postgres.application_url).close()
    postgres.stop()

    lost = data_dir / "postgres-superuser.password"
    kept = lost.read_text()
    lost.unlink()
    with pytest.raises(DatabaseUnavailable, match=r"postgres-superuser\.password .*restore"):
        postgres.start()
    lost.write_text(kept)
    postgres.start()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE operations ADD COLUMN more text",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "DROP TABLE audit",
        "TRUNCATE audit",
        "UPDATE audit SET action = 'nothing'",
        "UPDATE alembic_version SET version_num = '0000'",
        "CREATE TABLE mine (id int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "GRANT ALL ON audit TO pilothouse_application",
        "SET ROLE pilothouse",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE ROLE another",
        "CREATE DATABASE another",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY audit TO '/tmp/audit'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_the_application_owns_nothing_and_changes_no_audit(
    application: "psycopg.Connection[tuple[object, ...]]", statement: str
):
    if statement.startswith("GRANT"):  # PostgreSQL warns, and grants nothing
        application.execute(statement)
        with pytest.raises(errors.InsufficientPrivilege):
            application.execute("UPDATE audit SET action = 'nothing'")
        return
    with pytest.raises(errors.InsufficientPrivilege):
        application.execute(statement)


def test_the_application_works_with_rows(application: "psycopg.Connection[tuple[object, ...]]"):
    application.execute("INSERT INTO domains (id, name) VALUES ('one', 'one')")
    application.execute("UPDATE domains SET name = 'two' WHERE id = 'one'")
    application.execute(
        "INSERT INTO audit (project_id, user_id, action, target, request_id) VALUES ('p', 'u', 'test', 'one', 'r')"
    )
    assert application.execute("SELECT action FROM audit WHERE target = 'one'").fetchall() == [("test",)]
    application.execute("DELETE FROM domains WHERE id = 'one'")


def test_the_parts_of_a_server_are_the_application(data_dir: Path):
    with run_server(data_dir.parent, kubeconfig=None) as server:
        assert sessions(server) == {"pilothouse_application"}


def sessions(server: RunningServer) -> set[str]:
    with psycopg.connect(server.database_url) as connection:
        return {str(row[0]) for row in connection.execute(_SESSIONS)}

"""PostgreSQL behind a real PgBouncer: what holds with a session for each connection, and what is refused without."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pilothouse.cli.checks import examine
from pilothouse.cli.findings import State
from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.settings import PostgresSettings, Settings, TlsSettings
from pilothouse.store.database import Database
from pilothouse.store.poolers import shares_sessions
from tests.support.charts import config_map_chart
from tests.support.fleets import Fleet, fleet
from tests.support.poolers import run_pgbouncer
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import free_port, open_folder
from tools.localcluster.cluster import RunningCluster


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """A database of this file's own, without a schema."""
    with open_folder() as folder:
        postgres = EmbeddedPostgres(PostgresSettings(), data_dir=folder / "data")
        try:
            yield postgres.start()
        finally:
            postgres.stop()


@pytest.fixture(scope="module")
def pooled(postgres_url: str, kubernetes: RunningCluster) -> Iterator[Fleet]:
    """Every part behind session pooling; nothing begins within a minute but what a notification woke."""
    environment = {"PILOTHOUSE_WORKER__POLL_SECONDS": "60"}
    with (
        run_pgbouncer(postgres_url, mode="session") as url,
        fleet(apis=1, workers=1, observers=1, environment=environment, database_url=url) as running,
    ):
        running.register(kubernetes.kubeconfig.read_text())
        yield running


def test_a_release_lives_and_ends_behind_session_pooling(pooled: Fleet, helm_cli: HelmCommand, namespace: str):
    server = pooled.apis[0]
    charts = [
        str(server.upload(config_map_chart("pooled", version), parameters='{"override": true}').json()["id"])
        for version in ("1.0.0", "1.1.0")
    ]
    release = OneRelease(server, namespace, "pooled", helm_cli)

    assert release.create(charts[0]).status_code == 201
    assert release.settled()["status"] == "DEPLOYED"
    assert release.update(chart_id=charts[1]).status_code == 200
    assert release.settled()["version"] == 2
    assert release.rollback(1).status_code == 200
    assert release.settled()["version"] == 3
    assert release.delete().status_code == 200
    release.gone()


async def test_each_connection_has_its_own_session_with_our_limits(postgres_url: str):
    with run_pgbouncer(postgres_url, mode="session") as url:
        assert not shares_sessions(url)
        database = Database(url, generic_plans=True)
        async with database.autocommit() as connection:
            shown = {
                name: (await connection.exec_driver_sql(f"SHOW {name}")).scalar_one()
                for name in (
                    *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
                    *("default_transaction_isolation", "plan_cache_mode"),
                )
            }
        await database.close()
        with psycopg.connect(url) as another:
            left = another.execute("SHOW statement_timeout").fetchone()
    assert list(shown.values()) == ["30s", "10s", "30s", "read committed", "force_generic_plan"]
    assert left == ("0",), "the session is cleared before another client gets it"


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_pooling_by_the_transaction_is_refused_at_the_start_and_by_the_doctor(
    postgres_url: str, tmp_path: Path, mode: str
):
    with run_pgbouncer(postgres_url, mode=mode) as url:
        assert shares_sessions(url)
        for command in ("migrate", "prepare", "api", "worker", "observer"):
            said = refused(command, url, tmp_path)
            assert "pool_mode = session" in said, command
            assert "Traceback" not in said
        settings = Settings(data_dir=tmp_path, database_url=url, port=free_port(), tls=TlsSettings(port=free_port()))
        found = {one.check: one for one in await examine(settings)}["postgresql"]
    assert (found.state, "pool_mode = session" in found.advice) == (State.FAILED, True)


def refused(command: str, url: str, folder: Path) -> str:
    """Return what the command says when it ends with an error."""
    environment = {"PATH": "/usr/bin:/bin", "PILOTHOUSE_DATA_DIR": str(folder), "PILOTHOUSE_DATABASE_URL": url}
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, (command, done.returncode, done.stderr)
    return done.stdout + done.stderr


def test_a_database_without_a_pooler_shares_no_session(postgres_url: str):
    assert not shares_sessions(postgres_url)

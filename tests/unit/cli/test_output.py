"""Tables fit the terminal and lose no name; programs get whole lines, JSON and YAML."""

import json

import pytest
import yaml
from rich.cells import cell_len

from pilothouse.cli.output import Output, print_rows, table_lines, yaml_of

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


@pytest.mark.parametrize("width", [100, 120, 160, 200])
def test_a_table_fits_the_terminal_and_keeps_every_name_whole(width: int):
    lines = list(table_lines(ROWS, COLUMNS, width=width))

    assert len(lines) == 3
    assert max(cell_len(line) for line in lines) <= width
    assert [line.split()[0] for line in lines] == ["NAME", "web", "a-release-with-a-long-name"]
    starts = {line.index(word) for line, word in zip(lines, ("NAMESPACE", "production", "default"), strict=True)}
    assert len(starts) == 1


def test_a_table_without_a_terminal_cuts_nothing():
    lines = list(table_lines(ROWS, COLUMNS, width=None))

    assert "a-long-name-of-a-chart-1.20.3" in lines[1]
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("width", [40, 60])
def test_rows_become_blocks_when_a_table_does_not_fit(width: int):
    lines = list(table_lines(ROWS, COLUMNS, width=width))

    assert lines[:3] == ["NAME         web", "NAMESPACE    production", "REVISION     12"]
    assert lines[7] == ""
    assert lines[8] == "NAME         a-release-with-a-long-name"


def test_the_text_of_a_single_row_is_never_cut():
    text = "the reason " * 20
    [line, *rest] = table_lines([["failed", text]], ("state", "text"), width=80, may_cut=False)

    assert (line, rest) == ("state  failed", [f"text   {text.rstrip()}"])


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

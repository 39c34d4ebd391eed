"""Output of commands: a table for people, the server's answer for programs."""

import re
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
import typer

from pilothouse.cli.tables import Table
from pilothouse.cli.terminal import echo, in_a_cell, printable, printable_json

#: The forms in which the server's routes write a time.
_UTC: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)")


#: Ids beyond this leave little room on a narrow terminal.
_SHORT_ID: Final = 20


class Output(StrEnum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


As = Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml")]


def print_json(answer: object) -> None:
    """Print the answer as indented JSON."""
    typer.echo(_json_of(answer))


def yaml_of(answer: object) -> str:
    """Return the answer as YAML that Helm reads as the same."""
    from pilothouse.chart_archive.yaml_text import dump_yaml

    text = dump_yaml(answer)
    # what a terminal must not see is escaped as JSON does, which is YAML too
    return text if printable(text) == text else _json_of(answer) + "\n"


def tell_older(marker: str) -> None:
    """Say how to go on in a list behind the marker, if there is one."""
    if marker:
        echo(f"there are older ones: --marker {marker}", err=True)


def print_answer(answer: object, output: Output) -> None:
    """Print the answer for programs: as YAML if that is asked for, else as JSON."""
    if output is Output.YAML:
        typer.echo(yaml_of(answer), nl=False)
    else:
        print_json(answer)


def print_rows(
    rows: list[dict[str, Any]],
    columns: Sequence[str],
    output: Output,
    *,
    single: bool = False,
    headers: bool = True,
    least: Sequence[str] = (),
) -> None:
    """Print those columns of the rows, or all of the rows as JSON or YAML.

    ``single``: an object instead of a list. ``least``: columns that a narrow terminal does without, the first
    one first.
    """
    if output is not Output.TABLE:
        print_answer(rows[0] if single else rows, output)
        return
    table = Table(list(columns), [[in_a_cell(_text(row[column])) for column in columns] for row in rows], headers)
    width = terminal_width()
    if single and not table.fits(width):
        print_lines(table.blocks())
        return
    fitted = table.fitted(width, least)
    little = 2 * len(fitted.left_out) > len(columns) or "release" in fitted.left_out or not fitted.fits(width)
    if width is not None and little and columns[0] == "id" and any(len(row[0]) > _SHORT_ID for row in table.rows):
        fitted = table.with_ids_above(width, least)
        print_lines(fitted.lines_below("id", [row[0] for row in table.rows]))
    else:
        print_lines(fitted.lines())
    if fitted.left_out:
        _tell_left_out(fitted.left_out, width or 0)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines with terminal control characters escaped: they come from other programs."""
    for line in lines:
        echo(line)


def terminal_width() -> int | None:
    """Return the columns of the terminal; None without one: a file or a program gets whole lines."""
    if not sys.stdout.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def _tell_left_out(columns: Sequence[str], width: int) -> None:
    """Say what the terminal has no room for, on lines that fit it too."""
    import textwrap

    for line in textwrap.wrap(f"no room for: {', '.join(columns)}; -o json has all", max(width, 1)):
        echo(line, err=True)


def _json_of(answer: object) -> str:
    return printable_json(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def _text(value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    moment = _UTC.fullmatch(text)
    return f"{moment[1]}Z" if moment else text

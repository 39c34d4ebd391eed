"""Output of commands: a table for people, the server's answer for programs."""

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer

from pilothouse.cli.terminal import echo, on_one_line, printable_json


class Output(StrEnum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"


_UNBOUNDED = 4096

As = Annotated[Output, typer.Option("--output", "-o", help="table or json")]


def print_json(answer: object) -> None:
    """Print the answer as indented JSON."""
    typer.echo(printable_json(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode()))


def print_rows(rows: list[dict[str, Any]], columns: Sequence[str], output: Output, *, one: bool = False) -> None:
    """Print those columns of the rows, or all of the rows as JSON; ``one``: a single object instead of a list."""
    if output is Output.JSON:
        print_json(rows[0] if one else rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for column in columns:
        # an id that is cut cannot be used for the next command
        longest = max((len(on_one_line(str(row[column]))) for row in rows), default=0) if column == "id" else None
        table.add_column(column, min_width=longest)
    for row in rows:
        # as text: in rich's own markup "[red]" would be a colour and not what the server said
        table.add_row(*(Text(on_one_line(str(row[column]))) for column in columns))
    # a file or a program gets whole lines; only a terminal has a width
    Console(width=None if sys.stdout.isatty() else _UNBOUNDED).print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines with terminal control characters escaped: they come from other programs."""
    for line in lines:
        echo(line)

"""Output of commands: a table for people, the server's answer for programs."""

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
import typer

from pilothouse.cli.terminal import echo, on_one_line, printable, printable_json


class Output(StrEnum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


_GAP: Final = "  "
_NARROWEST: Final = 12  # a column of text that is cut below this says nothing
_KEPT_WHOLE: Final = frozenset({"id", "name"})  # what the next command needs

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
    one: bool = False,
    headers: bool = True,
) -> None:
    """Print those columns of the rows, or all of the rows as JSON or YAML; ``one``: an object instead of a list."""
    if output is not Output.TABLE:
        print_answer(rows[0] if one else rows, output)
        return
    cells = [[on_one_line(_text(row[column])) for column in columns] for row in rows]
    for line in table_lines(cells, columns, width=terminal_width(), headers=headers, may_cut=not one):
        typer.echo(line)


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


def table_lines(
    cells: list[list[str]], columns: Sequence[str], *, width: int | None, headers: bool = True, may_cut: bool = True
) -> Iterable[str]:
    """Return the lines of a table that is no wider than ``width``.

    The widest columns are cut first, but no name or id; if that is not enough, or unless ``may_cut``, each row becomes
    a block of lines.
    """
    from rich.cells import cell_len, set_cell_size

    shown = [list(columns), *cells] if headers else cells
    natural = [max((cell_len(row[at]) for row in shown), default=0) for at in range(len(columns))]
    widths = natural if width is None else _narrowed(natural, columns, width, may_cut=may_cut)
    if widths is None:
        return _blocks(cells, columns)
    lines = (
        _GAP.join(
            set_cell_size(cell, size) if cell_len(cell) <= size else f"{set_cell_size(cell, size - 1)}…"
            for cell, size in zip(row, widths, strict=True)
        )
        for row in shown
    )
    return (line.rstrip() for line in lines)


def _narrowed(natural: list[int], columns: Sequence[str], width: int, *, may_cut: bool) -> list[int] | None:
    """Return narrower columns that fit, or None; the widest lose first."""
    widths = list(natural)
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    cuttable = [at for at, name in enumerate(columns) if may_cut and name.lower() not in _KEPT_WHOLE]
    while excess > 0:
        at = max(cuttable, key=widths.__getitem__, default=None)
        if at is None or widths[at] <= max(_NARROWEST, len(columns[at])):
            return None
        widths[at] -= 1
        excess -= 1
    return widths


def _blocks(cells: list[list[str]], columns: Sequence[str]) -> Iterable[str]:
    """Return one line per cell: nothing is cut, a terminal wraps what is too long."""
    widest = max(len(column) for column in columns)
    for number, row in enumerate(cells):
        if number:
            yield ""
        yield from (f"{column:{widest}}{_GAP}{cell}".rstrip() for column, cell in zip(columns, row, strict=True))


def _json_of(answer: object) -> str:
    return printable_json(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def _text(value: object) -> str:
    return "" if value is None else str(value)

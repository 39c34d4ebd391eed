"""Tables for people: one line per row. On a terminal they fit its width, elsewhere they are whole."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_GAP: Final = "  "
_NARROWEST: Final = 16  # a text that is cut below this says nothing; its column is left out instead
_ALWAYS: Final = frozenset({"id", "name"})  # what the next command needs
_WHOLE: Final = _ALWAYS | {"release", "access_key", "object"}
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?")
#: From which number of seconds on another unit is used, its length, and its letter.
_UNITS: Final = ((48 * 3600, 86400, "d"), (2 * 3600, 3600, "h"), (120, 60, "m"), (0, 1, "s"))


@dataclass(frozen=True)
class Table:
    """Columns with the cells of each row; ``left_out`` names columns for which the terminal has no room."""

    columns: list[str]
    rows: list[list[str]]
    headers: bool = True
    left_out: tuple[str, ...] = ()

    def without(self, *columns: str) -> "Table":
        """Return the table without those columns."""
        kept = [at for at, name in enumerate(self.columns) if name not in columns]
        return Table(
            [self.columns[at] for at in kept],
            [[row[at] for at in kept] for row in self.rows],
            self.headers,
            (*self.left_out, *columns),
        )

    def each(self, change: Callable[[str], str]) -> "Table":
        """Return the table with every cell changed so."""
        return Table(self.columns, [[change(cell) for cell in row] for row in self.rows], self.headers, self.left_out)

    def fitted(self, width: int | None, least: Sequence[str] = (), *, now: datetime | None = None) -> "Table":
        """Return a table that is no wider than ``width``, or as narrow as it can be without losing a name or an id.

        Times are shortened first, then long texts are cut. If that is not enough, columns are left out: those of
        ``least`` in that order, then the others from the right.
        """
        if width is None or self.fits(width):
            return self
        moment = now or datetime.now(UTC)
        short = self.each(_to_the_second)
        if short.fits(width):
            return short
        short = self.each(lambda cell: _age(cell, moment))
        expendable = [name for name in self.columns[:0:-1] if name.lower() not in _ALWAYS and name not in least]
        floors = dict(zip(short.columns, _floors(short), strict=True))
        left_out = []
        for name in (*(name for name in least if name in floors), *expendable):
            if _total(floors.values()) <= width:
                break
            del floors[name]
            left_out.append(name)
        return _cut(short.without(*left_out), width)

    def lines(self) -> Iterator[str]:
        """Yield the lines."""
        from rich.cells import set_cell_size

        widths = _widths(self)
        for row in [self.columns, *self.rows] if self.headers else self.rows:
            yield _GAP.join(set_cell_size(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip()

    def with_ids_above(self, width: int, least: Sequence[str] = (), *, now: datetime | None = None) -> "Table":
        """Return the table for ``lines_below`` without its first column, which has lines of its own then.

        A release stands first: it tells the rows apart, and names the operation for the next command, too.
        """
        order = sorted(self.columns[1:], key=lambda name: name != "release")
        at = [self.columns.index(name) for name in order]
        rest = Table(order, [[row[place] for place in at] for row in self.rows], self.headers)
        return rest.fitted(width - len(_GAP), least, now=now)

    def lines_below(self, column: str, ids: Sequence[str]) -> Iterator[str]:
        """Yield two lines per row: its id, and below it what this table has of it."""
        firsts = [column, *ids] if self.headers else ids
        for first, line in zip(firsts, self.lines(), strict=True):
            yield first
            yield f"{_GAP}{line}"

    def blocks(self) -> Iterator[str]:
        """Yield one line per cell: nothing is cut, a terminal wraps what is too long."""
        widest = max(len(column) for column in self.columns)
        for number, row in enumerate(self.rows):
            if number:
                yield ""
            yield from (
                f"{column:{widest}}{_GAP}{cell}".rstrip() for column, cell in zip(self.columns, row, strict=True)
            )

    def fits(self, width: int | None) -> bool:
        """Return whether no line is wider than that."""
        return width is None or _total(_widths(self)) <= width


def _widths(table: Table) -> list[int]:
    """Return how wide the widest cell of each column is."""
    from rich.cells import cell_len

    shown = [table.columns, *table.rows] if table.headers else table.rows
    return [max((cell_len(row[at]) for row in shown), default=0) for at in range(len(table.columns))]


def _floors(table: Table) -> list[int]:
    """Return how narrow each column may become."""
    return [
        size if _is_whole(name) else min(size, max(_NARROWEST, len(name) if table.headers else 0))
        for name, size in zip(table.columns, _widths(table), strict=True)
    ]


def _cut(table: Table, width: int) -> Table:
    """Return the table with its widest texts cut until it fits, or all of them as far as they may be."""
    from rich.cells import cell_len, set_cell_size

    floors = _floors(table)
    widths = [max(floor, min(size, width)) for floor, size in zip(floors, _widths(table), strict=True)]
    while _total(widths) > width:
        cuttable = [at for at, size in enumerate(widths) if size > floors[at]]
        if not cuttable:
            break
        widths[max(cuttable, key=widths.__getitem__)] -= 1
    rows = [
        [
            cell if cell_len(cell) <= size else f"{set_cell_size(cell, size - 1)}…"
            for cell, size in zip(row, widths, strict=True)
        ]
        for row in table.rows
    ]
    return Table(table.columns, rows, table.headers, table.left_out)


def _is_whole(column: str) -> bool:
    """Return whether a cell of that column is a name or id, of which a part is of no use."""
    return column.lower() in _WHOLE or column.endswith("_id")


def _total(widths: Collection[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _to_the_second(cell: str) -> str:
    """Return a time without its milliseconds, anything else as it is."""
    found = _TIME.fullmatch(cell)
    return cell if found is None else f"{found[1]}{found[3] or ''}"


def _age(cell: str, now: datetime) -> str:
    """Return a time as ``3m ago`` or ``in 3m``, anything else as it is."""
    if _TIME.fullmatch(cell) is None:
        return cell
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return cell
    seconds = int((now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds())
    length, letter = next((length, letter) for least, length, letter in _UNITS if abs(seconds) >= least)
    span = f"{abs(seconds) // length}{letter}"
    return f"{span} ago" if seconds >= 0 else f"in {span}"

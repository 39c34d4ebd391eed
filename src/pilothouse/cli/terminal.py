"""Untrusted text on a terminal: control characters and direction marks are escaped."""

import re
from typing import Final

import typer

_KEPT: Final = frozenset("\n\t")
_BREAK: Final = re.compile(r" *[\n\t][\n\t ]*")


def printable(text: str) -> str:
    """Return the text with control characters, line separators and direction marks escaped, except newline and tab."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else _escaped(char) for char in text)


def on_one_line(text: str) -> str:
    """Return the text for a cell or a log line, with newline and tab escaped too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def in_a_cell(text: str) -> str:
    """Return the text for people on one line: what was on several is joined."""
    return printable(_BREAK.sub(" ", text.rstrip()))


def printable_json(text: str) -> str:
    """Return JSON text with the same meaning, and such characters as JSON escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else _json_escaped(char) for char in text)


def echo(text: str, *, err: bool = False) -> None:
    """Print the text and a newline without control sequences for the terminal."""
    typer.echo(printable(text), err=err)


def clock_of(moment: str) -> str:
    """Return the time of day of a moment of an answer, to the second: lines of what is happening begin with it."""
    return moment[11:19]


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _json_escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

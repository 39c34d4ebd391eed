"""Text of others on a terminal: what would command the terminal, or change the order of its text, is escaped."""

from typing import Final

import typer

_KEPT: Final = frozenset("\n\t")


def printable(text: str) -> str:
    """Return the text with controls, line separators and marks of direction as escapes; newline and tab stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else _escaped(char) for char in text)


def on_one_line(text: str) -> str:
    """Return the same for a cell or a log line, where newline and tab are escaped too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def printable_json(text: str) -> str:
    """Return the JSON text with the same meaning, and such characters as JSON's own escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else _json_escaped(char) for char in text)


def echo(text: str, *, err: bool = False) -> None:
    """Print the text and a newline, so that a terminal obeys nothing in it."""
    typer.echo(printable(text), err=err)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _json_escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

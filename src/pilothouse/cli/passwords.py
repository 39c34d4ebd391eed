"""Password prompts: a password is never an argument, which every user of the machine can read."""

import os
import sys
from typing import Annotated

import typer

from pilothouse.cli.exits import UsageError
from pilothouse.errors import InvalidRequest

FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read passwords from standard input, one per line, instead of asking.")
]


def ask(what: str, *, from_stdin: bool, twice: bool = False) -> str:
    """Return a password, typed unseen or read from standard input; ``twice``: a typed one must be confirmed."""
    if not from_stdin:
        _require_terminal(what)
        return str(typer.prompt(what, hide_input=True, confirmation_prompt=twice, err=True))
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise InvalidRequest(f"standard input: missing line with the {what.lower()}")
    return line


def _require_terminal(what: str) -> None:
    """Raise UsageError without a terminal, on which getpass would print a warning and echo what is typed."""
    if sys.stdin.isatty():
        return
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        flag = "--secret-key-stdin" if what == "Secret key" else "--password-stdin"
        raise UsageError(f"there is no terminal to ask for the {what.lower()}: pipe it in, with {flag}") from None

"""Password prompts: a password is never an argument, which every user of the machine can read."""

import sys
from typing import Annotated

import typer

from pilothouse.errors import InvalidRequest

FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read passwords from standard input, one per line, instead of asking.")
]


def ask(what: str, *, from_stdin: bool, twice: bool = False) -> str:
    """Return a password, typed unseen or read from standard input; ``twice``: a typed one must be confirmed."""
    if not from_stdin:
        return str(typer.prompt(what, hide_input=True, confirmation_prompt=twice, err=True))
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise InvalidRequest(f"standard input: missing line with the {what.lower()}")
    return line

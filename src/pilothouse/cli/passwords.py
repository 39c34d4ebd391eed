"""How commands ask for passwords: never as an argument, which everybody on the machine can read."""

import sys
from typing import Annotated

import typer

from pilothouse.errors import InvalidRequest

FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read what would be asked for from standard input, one line each.")
]


def ask(what: str, *, from_stdin: bool, twice: bool = False) -> str:
    """One password, typed unseen or taken from standard input; ``twice``: to be confirmed when typed."""
    if not from_stdin:
        return str(typer.prompt(what, hide_input=True, confirmation_prompt=twice, err=True))
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise InvalidRequest(f"--password-stdin: there is no line with the {what.lower()}")
    return line

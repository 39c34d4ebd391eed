"""Password prompts: a password is never an argument, which every user of the machine can read."""

import os
import sys
from typing import Annotated, Any, Final

import typer

from pilothouse.cli.exits import ExitStatus, UsageError

ACCOUNT: Final = (
    "Account whose user it is: an account has users and projects of its own; in the vendor's IAM it is a domain."
)
Domain = Annotated[
    str,
    typer.Option(envvar="PILOTHOUSE_IDENTITY__FIRST_DOMAIN", show_envvar=False, metavar="ACCOUNT", help=ACCOUNT),
]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read passwords from standard input, one per line, instead of asking.")
]


def ask(what: str, *, from_stdin: bool, twice: bool = False, flag: str = "") -> str:
    """Return a password, typed unseen or read from standard input; ``twice``: a typed one must be confirmed.

    ``flag``: what to give where there is no terminal to ask on; by default the one for passwords and keys.
    """
    if not from_stdin:
        _require_terminal(what, flag or ("--secret-key-stdin" if what == "Secret key" else "--password-stdin"))
        return str(prompt(what, hide_input=True, confirmation_prompt=twice))
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise UsageError(f"standard input: missing line with the {_in_a_sentence(what)}")
    return line


def prompt(what: str, **options: Any) -> Any:
    """Return what a person types; Ctrl-C is typer's Exit with the status that it has everywhere."""
    try:
        return typer.prompt(what, err=True, **options)
    except typer.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            typer.echo(err=True)
            raise typer.Exit(ExitStatus.INTERRUPTED) from None
        raise


def _require_terminal(what: str, flag: str) -> None:
    """Raise UsageError without a terminal, on which getpass would print a warning and echo what is typed."""
    if sys.stdin.isatty():
        return
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise UsageError(
            f"there is no terminal to ask for the {_in_a_sentence(what)}: pipe it in, with {flag}"
        ) from None


def _in_a_sentence(what: str) -> str:
    return what if what.isupper() else what.lower()

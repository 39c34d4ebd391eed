"""``pilothouse completion``."""

from enum import StrEnum
from typing import Annotated

import typer

from pilothouse.cli.completion import COMPLETE


class Shell(StrEnum):
    """Shells that a script exists for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print the completion script of a shell.

    bash, in ~/.bashrc: source <(pilothouse completion bash); zsh, in ~/.zshrc after compinit: the same with zsh; fish:
    pilothouse completion fish > ~/.config/fish/completions/pilothouse.fish
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # typer does not list it

    typer.echo(get_completion_script(prog_name="pilothouse", complete_var=COMPLETE, shell=shell.value))

"""How the groups of commands are made."""

import typer


def command_group(description: str) -> typer.Typer:
    """Return a group that explains itself in plain text: what draws boxes takes 60 ms to load."""
    return typer.Typer(help=description, no_args_is_help=True, rich_markup_mode=None)

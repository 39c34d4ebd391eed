"""Groups of commands."""

import typer


def command_group(description: str) -> typer.Typer:
    """Return a group with plain-text help: drawing boxes takes 60 ms to load."""
    return typer.Typer(help=description, no_args_is_help=True, rich_markup_mode=None)

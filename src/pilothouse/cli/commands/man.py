"""``pilothouse man``."""

import typer


def man() -> None:
    """Print the manual page.

    Examples: pilothouse man | man -l -; pilothouse man > ~/.local/share/man/man1/pilothouse.1
    """
    from pilothouse.cli.man_page import man_page

    for line in man_page():
        typer.echo(line)

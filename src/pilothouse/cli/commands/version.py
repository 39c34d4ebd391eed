"""``pilothouse version``."""

from typing import Annotated

import typer

from pilothouse import __version__
from pilothouse.cli.terminal import echo


def version(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Include the versions of Helm, Go and Python.")] = False,
) -> None:
    """Print the version."""
    echo(__version__)
    if everything:
        from pilothouse.engine.versions import read_versions

        for name, number in read_versions().items():
            echo(f"{name} {number}")

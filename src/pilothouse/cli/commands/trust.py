"""``pilothouse trust …``: which charts the project takes, by who signed them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_answer, print_lines
from pilothouse.cli.sources import read_text

app = connected_group("Which charts the project takes, by who signed them.")

_PATH = "/api/v1/verification"


@app.command("show")
def show(context: typer.Context, output: As = Output.TABLE) -> None:
    """Show whether the project takes verified charts only, and whose signatures count."""
    _print(client_of(context).call("GET", _PATH), output)


@app.command("set")
def change(
    context: typer.Context,
    *,
    verified_only: Annotated[
        bool | None, typer.Option("--verified-only/--any-chart", help="Take verified charts only, or any.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", exists=True, dir_okay=False, help="Public PGP keys that are trusted for uploads."),
    ] = None,
    output: As = Output.TABLE,
) -> None:
    """Set which charts the project takes, and whose signatures count for uploads.

    Charts of sources are verified with the keys of their source: 'source add --keys'.

    Example: pilothouse trust set --verified-only --keys release-team.asc
    """
    if verified_only is None and keys is None:
        raise UsageError("nothing to set: name --verified-only, --any-chart or --keys")
    body = {"verified_only": verified_only, "keys": read_text(keys, "--keys") if keys is not None else None}
    _print(client_of(context).call("PUT", _PATH, body=body), output)


def _print(row: dict[str, Any], output: Output) -> None:
    if output is Output.TABLE:
        print_lines(_lines(row))
    else:
        print_answer(row, output)


def _lines(row: dict[str, Any]) -> Iterator[str]:
    yield f"VERIFIED CHARTS ONLY: {'yes' if row['verified_only'] else 'no'}"
    for whose, keys in (("UPLOADS", row), *((f"SOURCE {source['name']}", source) for source in row["sources"])):
        yield f"{whose}: {', '.join(keys['trusted']) or 'no key'}"
        yield from (f"  not {key}" for key in keys["unusable"])

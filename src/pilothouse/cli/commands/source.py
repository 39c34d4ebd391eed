"""``pilothouse source …``: where charts come from, registries and repositories."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from pilothouse.cli.completion import complete_sources
from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_rows
from pilothouse.cli.passwords import FromStdin, ask
from pilothouse.cli.sources import OCI, read_text
from pilothouse.cli.terminal import echo

app = connected_group("Chart sources: OCI registries and HTTP repositories.")

_COLUMNS = ("id", "name", "kind", "url", "verification", "synced_at", "problem")


class Verify(StrEnum):
    """How charts of a source are verified."""

    NONE = "none"
    PGP = "pgp"
    COSIGN = "cosign"


SourceName = Annotated[
    str, typer.Argument(metavar="SOURCE", help="Name or id of the source.", autocompletion=complete_sources)
]


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the source.")],
    url: Annotated[str, typer.Argument(help="oci://HOST/FOLDER, or https://… of a repository.")],
    *,
    username: Annotated[str, typer.Option("--username", help="User name; its password is asked for.")] = "",
    password_stdin: FromStdin = False,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", exists=True, dir_okay=False, help="Authorities that are trusted (PEM).")
    ] = None,
    verify: Annotated[
        Verify, typer.Option("--verify", help="How its charts are verified; those that do not verify are refused.")
    ] = Verify.NONE,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", exists=True, dir_okay=False, help="Public keys that are trusted, for --verify."),
    ] = None,
    sync_seconds: Annotated[
        int, typer.Option("--sync-seconds", min=0, help="How often it is synchronised; 0: only by 'source sync'.")
    ] = 3600,
    output: As = Output.TABLE,
) -> None:
    """Add a source. It is asked and synchronised first; the password is stored encrypted.

    Example: pilothouse source add team oci://registry.example.com/charts --username puller
    """
    body: dict[str, object] = {
        "name": name,
        "kind": "oci" if url.startswith(OCI) else "http",
        "url": url,
        "ca": read_text(ca_file, "--ca-file") if ca_file is not None else "",
        "verification": {"kind": verify.value, "keys": read_text(keys, "--keys") if keys is not None else ""},
        "sync_seconds": sync_seconds,
    }
    if username:
        body["credentials"] = {"username": username, "password": ask("Password", from_stdin=password_stdin)}
    print_rows([client_of(context).call("POST", "/api/v1/sources", body=body)], _COLUMNS, output, single=True)


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the project's sources."""
    print_rows(client_of(context).call("GET", "/api/v1/sources"), _COLUMNS, output, least=("synced_at", "kind"))


@app.command("show")
def show(context: typer.Context, source: SourceName, output: As = Output.TABLE) -> None:
    """Show one source."""
    print_rows([client_of(context).call("GET", _path(source))], _COLUMNS, output, single=True)


@app.command("sync")
def sync(context: typer.Context, source: SourceName, output: As = Output.TABLE) -> None:
    """Synchronise a source now."""
    print_rows([client_of(context).call("POST", f"{_path(source)}/sync")], _COLUMNS, output, single=True)


@app.command("remove")
def remove(context: typer.Context, source: SourceName) -> None:
    """Remove a source and what was pulled from it. Releases are not affected."""
    client_of(context).call("DELETE", _path(source))
    echo(f"source {source} was removed; releases made from its charts are not affected")


def _path(source: str) -> str:
    return f"/api/v1/sources/{quote(source, safe='')}"

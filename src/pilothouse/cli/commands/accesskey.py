"""``pilothouse accesskey …``: access keys of a running server."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import quote

import typer

from pilothouse.cli.commands import project as projects
from pilothouse.cli.commands import user as users
from pilothouse.cli.completion import complete_access_keys, complete_users
from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_rows
from pilothouse.cli.passwords import FromStdin, ask
from pilothouse.cli.terminal import echo

app = connected_group("Access keys, with which programs sign their requests.")

_COLUMNS = ("access_key", "description", "user_id", "project_id", "enabled", "expires_at", "last_used_at", "created_at")
_MADE = ("access_key", "user_id", "project_id")
_LEAST = ("project_id", "created_at", "last_used_at")

Key = Annotated[str, typer.Argument(help="The access key (AK).", autocompletion=complete_access_keys)]
Owner = Annotated[
    str, typer.Option("--user", help="Name or id of the user; default: the caller.", autocompletion=complete_users)
]


@app.command("list")
def list_all(context: typer.Context, user: Owner = "", output: As = Output.TABLE) -> None:
    """List the keys of a user."""
    query = f"?user_id={users.id_of(context, user)}" if user else ""
    print_rows(client_of(context).call("GET", f"/api/v1/accesskeys{query}"), _COLUMNS, output, least=_LEAST)


@app.command("create")
def create(
    context: typer.Context,
    user: Owner = "",
    project: Annotated[
        str, typer.Option(help="Name or id of the key's project; default: the project of the credentials.")
    ] = "",
    *,
    description: Annotated[str, typer.Option(help="What the key is for.")] = "",
    days: Annotated[int, typer.Option(min=0, max=36_500, help="Days until the key expires; 0: never.")] = 0,
    password_stdin: FromStdin = False,
    output: As = Output.TABLE,
) -> None:
    """Create a key; its secret is shown once. Asks for your password, unless PILOTHOUSE_TOKEN is a few minutes old."""
    body = {
        "user_id": users.id_of(context, user) if user else None,
        "project_id": projects.id_of(context, project) if project else None,
        "description": description,
        "expires_at": (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds") if days else None,
    }
    if password_stdin or not client_of(context).credentials.token:
        body["password"] = ask("Your password", from_stdin=password_stdin)
    row = client_of(context).call("POST", "/api/v1/accesskeys", body=body)
    print_rows([row], (*_MADE, "expires_at") if days else _MADE, output, single=True)
    if output is Output.TABLE:
        echo(f"secret key  {row['secret_key']}  (shown only now)")


@app.command("show")
def show(context: typer.Context, access_key: Key, output: As = Output.TABLE) -> None:
    """Show one key, without its secret."""
    print_rows([client_of(context).call("GET", _path(access_key))], _COLUMNS, output, single=True)


@app.command("enable")
def enable(context: typer.Context, access_key: Key, output: As = Output.TABLE) -> None:
    """Enable a key, or lift its lock."""
    _change(context, access_key, output, enabled=True)


@app.command("disable")
def disable(context: typer.Context, access_key: Key, output: As = Output.TABLE) -> None:
    """Disable a key. This also revokes the tokens of its user."""
    _change(context, access_key, output, enabled=False)


@app.command("describe")
def describe(
    context: typer.Context,
    access_key: Key,
    description: Annotated[str, typer.Argument(help="What the key is for; '' for nothing.")],
    output: As = Output.TABLE,
) -> None:
    """Say what a key is for."""
    _change(context, access_key, output, description=description)


@app.command("remove")
def remove(context: typer.Context, access_key: Key) -> None:
    """Delete a key. This also revokes the tokens of its user."""
    client_of(context).call("DELETE", _path(access_key))
    echo(f"access key {access_key} was deleted")


def _change(context: typer.Context, access_key: str, output: Output, **change: object) -> None:
    row = client_of(context).call("PATCH", _path(access_key), body=change)
    print_rows([row], _COLUMNS, output, single=True)


def _path(access_key: str) -> str:
    return f"/api/v1/accesskeys/{quote(access_key, safe='')}"

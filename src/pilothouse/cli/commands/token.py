"""``pilothouse token …``: create, show and revoke tokens of a running server."""

import re
from typing import Annotated, Any

import typer

from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import NotLoggedIn
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.passwords import Domain, FromStdin, ask
from pilothouse.cli.terminal import echo

app = connected_group("Tokens: log-ins that are valid for a day. All commands use PILOTHOUSE_TOKEN.")

_PATH = "/v3/auth/tokens"
_PROJECT_ID = re.compile(r"[0-9a-f]{32}")

Meant = Annotated[
    bool, typer.Option("--token-stdin", help="Read the token from standard input instead of PILOTHOUSE_TOKEN.")
]


@app.command("create")
def create(
    context: typer.Context,
    *,
    user: Annotated[
        str, typer.Option(envvar="PILOTHOUSE_IDENTITY__FIRST_USER", show_envvar=False, help="Name of the user.")
    ] = "admin",
    domain: Domain = "pilothouse",
    project: Annotated[
        str,
        typer.Option(envvar="PILOTHOUSE_PROJECT_ID", help="Name or id; without it the token has no project."),
    ] = "",
    password_stdin: FromStdin = False,
    output: As = Output.TABLE,
) -> None:
    """Create a token with a password. Prints only the token, for PILOTHOUSE_TOKEN=$(pilothouse token create …)."""
    claim = {"name": user, "domain": {"name": domain}, "password": ask("Password", from_stdin=password_stdin)}
    auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": claim}}}
    if project:
        auth["scope"] = {"project": {"id" if _PROJECT_ID.fullmatch(project) else "name": project}}
    token, said = client_of(context).log_in({"auth": auth})
    if output is not Output.TABLE:
        print_answer({"token": token, **_summary(said)}, output)
    else:
        echo(token)


@app.command("show")
def show(context: typer.Context, *, token_stdin: Meant = False, output: As = Output.TABLE) -> None:
    """Show a token's user, project and expiry."""
    token = _meant(context, token_stdin=token_stdin)
    said = client_of(context).call("GET", f"{_PATH}?nocatalog=1", headers={"X-Subject-Token": token})
    row = _summary(said)
    print_rows([row], tuple(row), output, single=True)


@app.command("revoke")
def revoke(context: typer.Context, *, token_stdin: Meant = False) -> None:
    """Revoke a token."""
    token = _meant(context, token_stdin=token_stdin)
    client_of(context).call("DELETE", _PATH, headers={"X-Subject-Token": token})
    echo("the token was revoked")


def _meant(context: typer.Context, *, token_stdin: bool) -> str:
    token = ask("Token", from_stdin=True) if token_stdin else client_of(context).credentials.token
    if not token:
        raise NotLoggedIn("log in, set PILOTHOUSE_TOKEN to the token, or use --token-stdin")
    return str(token)


def _summary(said: dict[str, Any]) -> dict[str, Any]:
    token = said["token"]
    project = token.get("project") or {}
    return {
        "user": token["user"]["name"],
        "domain": token["user"]["domain"]["name"],
        "project": project.get("name", ""),
        "project_id": project.get("id", ""),
        "roles": ", ".join(role["name"] for role in token["roles"]),
        "issued_at": token["issued_at"],
        "expires_at": token["expires_at"],
    }

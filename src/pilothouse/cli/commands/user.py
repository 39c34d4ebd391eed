"""``pilothouse user …``: users of a running server, their passwords and roles."""

import re
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from pilothouse.cli.commands import project as projects
from pilothouse.cli.completion import complete_projects, complete_users
from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.passwords import FromStdin, ask
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest, PilothouseError

if TYPE_CHECKING:
    from pilothouse.cli.client import Client

app = connected_group("Users, their passwords and roles.")

_COLUMNS = ("id", "name", "enabled", "locked_until", "created_at")
_ID = re.compile(r"[0-9a-f]{32}")

User = Annotated[str, typer.Argument(help="Name or id of the user; 'me' is the caller.", autocompletion=complete_users)]
Role = Annotated[str, typer.Argument(help="te_admin, readonly, 'CCE FullAccess', 'CCE ReadOnlyAccess', …")]
InProject = Annotated[
    str,
    typer.Option(
        "--project", help="Name or id of a project; default: the whole account.", autocompletion=complete_projects
    ),
]


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the account's users."""
    print_rows(client_of(context).call("GET", "/api/v1/users"), _COLUMNS, output)


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the user.")],
    *,
    role: Annotated[str, typer.Option(help="A role to grant; use 'user grant' for more.")] = "",
    project: InProject = "",
    password_stdin: FromStdin = False,
    output: As = Output.TABLE,
) -> None:
    """Create a user. Without --password-stdin a password is generated and shown once."""
    project_id = projects.id_of(context, project) if project else None
    password = ask("Password", from_stdin=True) if password_stdin else None
    client = client_of(context)
    row = client.call("POST", "/api/v1/users", body={"name": name, "password": password})
    if role:
        body = {"role": role, "project_id": project_id}
        try:
            row = {**row, **client.call("POST", f"/api/v1/users/{row['id']}/roles", body=body)}
        except PilothouseError as error:
            raise _without_user(client, row, error) from error
    _print(row, output)
    if output is Output.TABLE and row["password"]:
        echo(f"password  {row['password']}  (shown only now)")


def _without_user(client: "Client", row: dict[str, Any], error: PilothouseError) -> PilothouseError:
    """Remove a new user whose role was refused, and return what to say; its password if it has to stay."""
    try:
        client.call("DELETE", f"/api/v1/users/{row['id']}")
    except PilothouseError as left:
        password = f", with the password {row['password']}" if row["password"] else ""
        return PilothouseError(
            f"{error}; the user {row['name']} is there without that role{password}, as it could not be removed: {left}"
        )
    kind = UsageError if isinstance(error, UsageError) else PilothouseError
    return kind(f"no user was created: {error}")


@app.command("show")
def show(context: typer.Context, user: User = "me", output: As = Output.TABLE) -> None:
    """Show one user with its roles."""
    _print(client_of(context).call("GET", _path(context, user)), output)


@app.command("enable")
def enable(context: typer.Context, user: User, output: As = Output.TABLE) -> None:
    """Enable a user, or lift its lock."""
    _print(client_of(context).call("PATCH", _path(context, user), body={"enabled": True}), output)


@app.command("disable")
def disable(context: typer.Context, user: User, output: As = Output.TABLE) -> None:
    """Disable a user. It cannot log in, and its keys and tokens do not work."""
    _print(client_of(context).call("PATCH", _path(context, user), body={"enabled": False}), output)


@app.command("password")
def password(
    context: typer.Context,
    user: User = "me",
    *,
    end_keys: Annotated[bool, typer.Option("--end-keys", help="Disable the user's access keys too.")] = False,
    password_stdin: FromStdin = False,
) -> None:
    """Change a password, which revokes the user's tokens. For your own, the current one is asked for first."""
    row = client_of(context).call("GET", _path(context, user))
    own = row["id"] == client_of(context).call("GET", "/api/v1/users/me")["id"]
    current = ask("Current password", from_stdin=password_stdin) if own else None
    new = ask("New password", from_stdin=password_stdin, twice=True)
    body = {"password": new, "current_password": current, "end_keys": end_keys}
    client_of(context).call("PUT", f"/api/v1/users/{row['id']}/password", body=body)
    echo(f"user {row['name']} has a new password; its tokens {'and access keys ' if end_keys else ''}no longer work")


@app.command("grant")
def grant(context: typer.Context, user: User, role: Role, project: InProject = "", output: As = Output.TABLE) -> None:
    """Grant a role to a user."""
    body = {"role": role, "project_id": projects.id_of(context, project) if project else None}
    _print(client_of(context).call("POST", f"{_path(context, user)}/roles", body=body), output)


@app.command("withdraw")
def withdraw(
    context: typer.Context, user: User, role: Role, project: InProject = "", output: As = Output.TABLE
) -> None:
    """Revoke a role of a user."""
    query = f"?project_id={projects.id_of(context, project)}" if project else ""
    _print(client_of(context).call("DELETE", f"{_path(context, user)}/roles/{quote(role, safe='')}{query}"), output)


@app.command("remove")
def remove(context: typer.Context, user: User) -> None:
    """Delete a user with its keys, tokens and roles. Its audit rows stay."""
    client_of(context).call("DELETE", _path(context, user))
    echo(f"user {user} was deleted")


@app.command("recover")
def recover(
    name: Annotated[str, typer.Argument(envvar="PILOTHOUSE_IDENTITY__FIRST_USER", help="Name of the user.")] = "admin",
    domain: Annotated[
        str,
        typer.Option(envvar="PILOTHOUSE_IDENTITY__FIRST_DOMAIN", help="Name of the user's account."),
    ] = "pilothouse",
) -> None:
    """Regain access, on the server's machine. Makes the user an administrator with a new password."""
    import asyncio

    from pilothouse.cli.configuration import read_settings
    from pilothouse.cli.databases import check_schema, reachable_database
    from pilothouse.services.identity.bootstrap import recover_administrator
    from pilothouse.store.database import Database

    async def recovered(url: str) -> str:
        database = Database(url)
        try:
            return await recover_administrator(database, domain_name=domain, user_name=name)
        finally:
            await database.close()

    with reachable_database(read_settings()) as url:
        check_schema(url)
        password = asyncio.run(recovered(url))
    echo(f"password  {password}  (shown only now)")
    echo(
        f"user {name} is enabled and te_admin of the account; 'pilothouse token create --user {name}' logs in, and "
        "'pilothouse accesskey create' creates a key"
    )


def id_of(context: typer.Context, user: str) -> str:
    """Return the id of a user given by name or id; "me" is kept."""
    if user == "me" or _ID.fullmatch(user):
        return user
    rows: list[dict[str, Any]] = client_of(context).call("GET", "/api/v1/users")
    for row in rows:
        if row["name"] == user:
            return str(row["id"])
    raise InvalidRequest(f"no user of this account is named {user!r}; 'pilothouse user list' shows them")


def _path(context: typer.Context, user: str) -> str:
    return f"/api/v1/users/{id_of(context, user)}"


def _print(row: dict[str, Any], output: Output) -> None:
    if output is not Output.TABLE:
        print_answer(row, output)
        return
    held = [f"{role['role']} ({role['project_id'] or 'whole account'})" for role in row["roles"]]
    print_rows([{**row, "roles": ", ".join(held)}], ("id", "name", "enabled", "roles"), output)

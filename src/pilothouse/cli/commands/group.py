"""``pilothouse group …``: groups of identity providers, and the roles that they give."""

import re
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pilothouse.cli.commands import project as projects
from pilothouse.cli.completion import complete_groups, complete_projects
from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest

app = connected_group("Groups of identity providers, and the roles that they give.")

_ID = re.compile(r"[0-9a-f]{32}")

Group = Annotated[str, typer.Argument(help="Name or id of the group.", autocompletion=complete_groups)]
Role = Annotated[str, typer.Argument(help="te_admin, readonly, 'CCE FullAccess', 'CCE ReadOnlyAccess', …")]
InProject = Annotated[
    str,
    typer.Option(
        "--project", help="Name or id of a project; default: the whole account.", autocompletion=complete_projects
    ),
]
Provider = Annotated[str, typer.Option("--provider", help="Name of the identity provider, if there are several.")]


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the account's groups with their roles."""
    _print(client_of(context).call("GET", "/api/v1/groups"), output)


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The group, as the provider names it.")],
    *,
    provider: Provider = "",
    role: Annotated[str, typer.Option(help="A role to grant; use 'group grant' for more.")] = "",
    project: InProject = "",
    output: As = Output.TABLE,
) -> None:
    """Create a group, whose members get its roles."""
    project_id = projects.id_of(context, project) if project else None
    row = client_of(context).call("POST", "/api/v1/groups", body={"name": name, "provider": provider or None})
    if role:
        body = {"role": role, "project_id": project_id}
        row = client_of(context).call("POST", f"/api/v1/groups/{row['id']}/roles", body=body)
    _print([row], output)


@app.command("grant")
def grant(context: typer.Context, group: Group, role: Role, project: InProject = "", output: As = Output.TABLE) -> None:
    """Grant a role to the members of a group."""
    body = {"role": role, "project_id": projects.id_of(context, project) if project else None}
    _print([client_of(context).call("POST", f"{_path(context, group)}/roles", body=body)], output)


@app.command("withdraw")
def withdraw(
    context: typer.Context, group: Group, role: Role, project: InProject = "", output: As = Output.TABLE
) -> None:
    """Revoke a role of a group."""
    query = f"?project_id={projects.id_of(context, project)}" if project else ""
    _print([client_of(context).call("DELETE", f"{_path(context, group)}/roles/{quote(role, safe='')}{query}")], output)


@app.command("remove")
def remove(context: typer.Context, group: Group) -> None:
    """Delete a group. Its members lose its roles at once."""
    client_of(context).call("DELETE", _path(context, group))
    echo(f"group {group} was deleted")


def id_of(context: typer.Context, group: str) -> str:
    """Return the id of a group given by name or id."""
    if _ID.fullmatch(group):
        return group
    rows: list[dict[str, Any]] = client_of(context).call("GET", "/api/v1/groups")
    found = [row for row in rows if row["name"] == group]
    if len(found) != 1:
        some = "several groups are" if found else "no group of this account is"
        raise InvalidRequest(f"{some} named {group!r}; 'pilothouse group list' shows them with their ids")
    return str(found[0]["id"])


def _path(context: typer.Context, group: str) -> str:
    return f"/api/v1/groups/{id_of(context, group)}"


def _print(rows: list[dict[str, Any]], output: Output) -> None:
    if output is not Output.TABLE:
        print_answer(rows, output)
        return
    for row in rows:
        held = [f"{role['role']} ({role['project_id'] or 'whole account'})" for role in row["roles"]]
        row["roles"] = ", ".join(held)
    print_rows(rows, ("id", "name", "provider", "roles"), output)

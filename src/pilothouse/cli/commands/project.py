"""``pilothouse project …``: list, add, show, enable, disable and remove projects of a running server."""

import re
from typing import Annotated, Any

import typer

from pilothouse.cli.completion import complete_projects
from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_rows
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest

app = connected_group("Projects, which own clusters, charts and releases.")

_COLUMNS = ("id", "name", "enabled", "description")
_ID = re.compile(r"[0-9a-f]{32}")

Project = Annotated[str, typer.Argument(help="Name or id of the project.", autocompletion=complete_projects)]


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the account's projects."""
    print_rows(client_of(context).call("GET", "/api/v1/projects"), _COLUMNS, output)


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name; clients look up a project by the name of their region.")],
    description: Annotated[str, typer.Option(help="Description of the project.")] = "",
    output: As = Output.TABLE,
) -> None:
    """Create a project."""
    row = client_of(context).call("POST", "/api/v1/projects", body={"name": name, "description": description})
    print_rows([row], _COLUMNS, output, single=True)


@app.command("show")
def show(context: typer.Context, project: Project, output: As = Output.TABLE) -> None:
    """Show one project."""
    print_rows([client_of(context).call("GET", _path(context, project))], _COLUMNS, output, single=True)


@app.command("enable")
def enable(context: typer.Context, project: Project, output: As = Output.TABLE) -> None:
    """Enable a project."""
    _set(context, project, output, enabled=True)


@app.command("disable")
def disable(context: typer.Context, project: Project, output: As = Output.TABLE) -> None:
    """Disable a project: calls are refused and its tokens revoked. Accepted operations are carried out."""
    _set(context, project, output, enabled=False)


@app.command("remove")
def remove(context: typer.Context, project: Project) -> None:
    """Delete an empty project."""
    client_of(context).call("DELETE", _path(context, project))
    echo(f"project {project} was deleted")


def id_of(context: typer.Context, project: str) -> str:
    """Return the id of a project given by name or id."""
    if _ID.fullmatch(project):
        return project
    rows: list[dict[str, Any]] = client_of(context).call("GET", "/api/v1/projects")
    for row in rows:
        if row["name"] == project:
            return str(row["id"])
    raise InvalidRequest(f"no project of this account is named {project!r}; 'pilothouse project list' shows them")


def _set(context: typer.Context, project: str, output: Output, *, enabled: bool) -> None:
    row = client_of(context).call("PATCH", _path(context, project), body={"enabled": enabled})
    print_rows([row], _COLUMNS, output, single=True)


def _path(context: typer.Context, project: str) -> str:
    return f"/api/v1/projects/{id_of(context, project)}"

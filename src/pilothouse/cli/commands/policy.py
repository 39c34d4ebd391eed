"""``pilothouse policy …``: policies in the vendor's form, and whom they are attached to."""

import json
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from pilothouse.cli.commands import group as groups
from pilothouse.cli.commands import project as projects
from pilothouse.cli.commands import user as users
from pilothouse.cli.completion import complete_groups, complete_policies, complete_projects, complete_users
from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest

app = connected_group("Policies: documents that allow and deny.")

_ID = re.compile(r"[0-9a-f]{32}")

Policy = Annotated[str, typer.Argument(help="Name or id of the policy.", autocompletion=complete_policies)]
Document = Annotated[Path, typer.Argument(help="File with the document (JSON).", exists=True, dir_okay=False)]
ToUser = Annotated[str, typer.Option("--user", help="Name or id of a user.", autocompletion=complete_users)]
ToGroup = Annotated[str, typer.Option("--group", help="Name or id of a group.", autocompletion=complete_groups)]
InProject = Annotated[
    str,
    typer.Option(
        "--project", help="Name or id of a project; default: the whole account.", autocompletion=complete_projects
    ),
]


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the roles of the server and the account's policies."""
    _print(client_of(context).call("GET", "/api/v1/policies"), output)


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the policy.")],
    document: Document,
    output: As = Output.TABLE,
) -> None:
    """Store a policy. What is not understood in it is refused by name."""
    body = {"name": name, "document": _read(document)}
    _print([client_of(context).call("POST", "/api/v1/policies", body=body)], output)


@app.command("show")
def show(context: typer.Context, policy: Policy, output: As = Output.JSON) -> None:
    """Show a policy with its document."""
    _print([client_of(context).call("GET", _path(context, policy))], output)


@app.command("replace")
def replace(context: typer.Context, policy: Policy, document: Document, output: As = Output.TABLE) -> None:
    """Replace what a policy says, which counts at once."""
    body = {"document": _read(document)}
    _print([client_of(context).call("PUT", _path(context, policy), body=body)], output)


@app.command("attach")
def attach(
    context: typer.Context,
    policy: Policy,
    *,
    user: ToUser = "",
    group: ToGroup = "",
    project: InProject = "",
    output: As = Output.TABLE,
) -> None:
    """Attach a policy to a user or a group, which counts at once."""
    body = _where(context, user, group, project)
    _print([client_of(context).call("POST", f"{_path(context, policy)}/attachments", body=body)], output)


@app.command("detach")
def detach(
    context: typer.Context,
    policy: Policy,
    *,
    user: ToUser = "",
    group: ToGroup = "",
    project: InProject = "",
    output: As = Output.TABLE,
) -> None:
    """Take a policy from a user or a group."""
    query = urlencode({name: value for name, value in _where(context, user, group, project).items() if value})
    _print([client_of(context).call("DELETE", f"{_path(context, policy)}/attachments?{query}")], output)


@app.command("remove")
def remove(context: typer.Context, policy: Policy) -> None:
    """Delete a policy, and take it from whoever has it."""
    client_of(context).call("DELETE", _path(context, policy))
    echo(f"policy {policy} was deleted")


def _where(context: typer.Context, user: str, group: str, project: str) -> dict[str, str | None]:
    if bool(user) == bool(group):
        raise UsageError("name one of --user and --group")
    return {
        "user_id": users.id_of(context, user) if user else None,
        "group_id": groups.id_of(context, group) if group else None,
        "project_id": projects.id_of(context, project) if project else None,
    }


def _read(document: Path) -> Any:
    try:
        return json.loads(document.read_text())
    except ValueError as error:
        raise UsageError(f"{document}: no JSON: {error}") from error


def _path(context: typer.Context, policy: str) -> str:
    if _ID.fullmatch(policy):
        return f"/api/v1/policies/{policy}"
    rows: list[dict[str, Any]] = client_of(context).call("GET", "/api/v1/policies")
    found = next((row for row in rows if row["name"] == policy and not row["built_in"]), None)
    if found is None:
        raise InvalidRequest(f"no policy of this account is named {policy!r}; 'pilothouse policy list' shows them")
    return f"/api/v1/policies/{found['id']}"


def _print(rows: list[dict[str, Any]], output: Output) -> None:
    if output is not Output.TABLE:
        print_answer(rows if len(rows) != 1 else rows[0], output)
        return
    for row in rows:
        held = [
            (attachment["user_id"] or attachment["group_id"], attachment["project_id"])
            for attachment in row["attachments"]
        ]
        row["attached"] = ", ".join(f"{holder} ({project or 'whole account'})" for holder, project in held)
    print_rows(rows, ("id", "name", "built_in", "attached"), output)

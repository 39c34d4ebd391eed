"""``pilothouse operation …``: operations of a running server, their progress and events."""

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from pilothouse.cli.commands import cluster as clusters
from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_lines, print_rows
from pilothouse.states import OperationState

app = connected_group("Operations: installs, upgrades, rollbacks, uninstalls.")

_COLUMNS = ("id", "action", "state", "namespace", "release", "revision", "created_at", "text")
_EVENTS = ("id", "at", "attempt", "kind", "text")


@app.command("list")
def list_all(  # noqa: PLR0917 (typer reads parameters as arguments and options)
    context: typer.Context,
    cluster: Annotated[str, typer.Option(help="Only of this cluster (name or id).")] = "",
    namespace: Annotated[str, typer.Option(help="Only of this namespace.")] = "",
    release: Annotated[str, typer.Option(help="Only of this release.")] = "",
    state: Annotated[str, typer.Option(help="Only in this state, for example running or failed.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="Maximum number of rows, newest first.")] = 20,
    output: As = Output.TABLE,
) -> None:
    """List the project's operations, newest first."""
    cluster_id = clusters.id_of(context, cluster) if cluster else ""
    wanted = {"cluster_id": cluster_id, "namespace": namespace, "release": release, "state": state, "limit": limit}
    query = urlencode({name: value for name, value in wanted.items() if value})
    print_rows(client_of(context).call("GET", f"/api/v1/operations?{query}"), _COLUMNS, output)


@app.command("show")
def show(context: typer.Context, operation_id: str, output: As = Output.TABLE) -> None:
    """Show one operation and why it failed. The evidence has logs, events and states."""
    shown = client_of(context).call("GET", _path(operation_id))
    evidence = client_of(context).call("GET", f"{_path(operation_id)}/evidence")
    print_rows([{**shown, "evidence": evidence}], _COLUMNS, output, one=True)
    if output is Output.TABLE:
        for found in evidence:
            print_lines(_told(found))


@app.command("events")
def events(context: typer.Context, operation_id: str, output: As = Output.TABLE) -> None:
    """Show the events of an operation."""
    print_rows(client_of(context).call("GET", f"{_path(operation_id)}/events"), _EVENTS, output)


@app.command("follow")
def follow_to_its_end(context: typer.Context, operation_id: str, output: As = Output.TABLE) -> None:
    """Follow an operation to its end. Ctrl-C asks whether to detach, to cancel or to go on; status 1 if it failed."""
    from pilothouse.cli.following import follow

    ended = follow(client_of(context), operation_id)
    print_rows([ended], _COLUMNS, output, one=True)
    raise typer.Exit(0 if ended["state"] == OperationState.SUCCEEDED else 1)


@app.command("cancel")
def cancel(
    context: typer.Context,
    operation_id: str,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what an install has created, as a failed release.")
    ] = False,
    output: As = Output.TABLE,
) -> None:
    """Cancel an operation. A queued one never begins; a running one is stopped and undone."""
    body = {"keep": keep}
    print_rows(
        [client_of(context).call("POST", f"{_path(operation_id)}/cancel", body=body)], _COLUMNS, output, one=True
    )


def _told(found: dict[str, Any]) -> Iterator[str]:
    """Format the evidence of one attempt as lines for people."""
    yield f"\nattempt {found['attempt']}: {found['error']}"
    for one in found["blocking"]:
        yield f"  waited for {one['kind']} {one['namespace']}/{one['name']}: {one['message'] or one['status']}"
    for one in found["conflicts"]:
        yield f"  {one['field']} of {one['kind']} {one['namespace']}/{one['name']} is held by {one['manager']}"
    for one in found["objects"]:
        yield f"  {'hook ' if one['hook'] else ''}{one['kind']} {one['namespace']}/{one['name']}  {one['state']}"
    for pod in found["pods"]:
        yield f"  pod {pod['namespace']}/{pod['name']}  {pod['trouble'] or pod['phase']}"
        for container in pod["containers"]:
            yield f"    container {container['name']}  {container['state']}"
            yield from (f"      | {line}" for line in container["log"])
    for event in found["events"]:
        yield f"  {event['at']}  {event['type']}  {event['object']}  {event['reason']}: {event['text']}"
    for one in found["missing"]:
        yield f"  not known: {one}"


def _path(operation_id: str) -> str:
    return f"/api/v1/operations/{quote(operation_id, safe='')}"

"""``pilothouse audit``: who did what in the account of a running server."""

from typing import Annotated
from urllib.parse import urlencode

import orjson
import typer

from pilothouse.cli.completion import complete_clusters, complete_namespaces
from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import connected_group, connection_options_of
from pilothouse.cli.output import As, Output, print_rows, tell_older

app = connected_group("Audit log: who did what, from where, and the outcome. For administrators.")

_COLUMNS = ("id", "at", "user", "address", "action", "namespace", "target_name", "outcome", "detail", "times")
_LEAST = ("times", "address", "namespace", "detail")
#: Target of what is done to a release: its cluster's id, its namespace and its name.
_RELEASE_PARTS = 3

_Cluster = Annotated[
    str, typer.Option("--cluster", help="Only in this cluster (name or id).", autocompletion=complete_clusters)
]
_Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        help="Only what was done to releases of this namespace.",
        autocompletion=complete_namespaces,
    ),
]


@app.command("list")
def list_all(  # noqa: PLR0917 (typer reads parameters as arguments and options)
    context: typer.Context,
    since: Annotated[str, typer.Option(help="Only from this time on, for example 2026-01-31T12:00:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Only before this time.")] = "",
    user: Annotated[str, typer.Option(help="Only of this user (name or id).")] = "",
    project: Annotated[str, typer.Option(help="Only in this project (name or id).")] = "",
    action: Annotated[str, typer.Option(help="Only this action; 'iam:*' for all with this prefix.")] = "",
    target: Annotated[str, typer.Option(help="Only with this target (name or id).")] = "",
    outcome: Annotated[str, typer.Option(help="Only with this outcome: done, denied, failed or started.")] = "",
    address: Annotated[str, typer.Option(help="Only from this address.")] = "",
    cluster: _Cluster = "",
    namespace: _Namespace = "",
    marker: Annotated[str, typer.Option(help="Go on where the command before ended, as it said.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="Maximum number of rows, newest first.")] = 50,
    output: As = Output.TABLE,
) -> None:
    """List audit rows, newest first. Of all clusters and namespaces, whatever the context names.

    Writes to releases are told by what they did: upgrade, rollback, test. -o json has the id of the operation, too.
    """
    before = connection_options_of(context)  # the command's name
    filters = {
        "since": since,
        "until": until,
        "user": user,
        "project": project,
        "action": action,
        "target": target,
        "outcome": outcome,
        "address": address,
        "cluster": cluster or before.get("in_cluster", ""),
        "namespace": namespace or before.get("in_namespace", ""),
        "marker": marker,
        "limit": limit,
    }
    query = urlencode({name: value for name, value in filters.items() if value})
    answer = client_of(context).get(f"/api/v1/audit?{query}")
    rows = orjson.loads(answer.content)
    if output is Output.TABLE:
        rows = [{**row, "namespace": _namespace_of(row["target"])} for row in rows]
    print_rows(rows, _COLUMNS, output, least=_LEAST)
    tell_older(answer.next)


def _namespace_of(target: str) -> str:
    """Return the namespace of the release that something was done to; empty for other targets."""
    parts = target.split("/")
    return parts[1] if len(parts) >= _RELEASE_PARTS else ""

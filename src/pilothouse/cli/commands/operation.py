"""``pilothouse operation …``: operations of a running server, their progress and events."""

import re
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import orjson
import typer

from pilothouse.cli.commands import cluster as clusters
from pilothouse.cli.commands.status import at_work_elsewhere, is_locked_elsewhere, locked_elsewhere
from pilothouse.cli.completion import complete_living_operations, complete_operations
from pilothouse.cli.connection import AllClusters, client_of, cluster_of, cluster_to_list, session_of, tell_limit
from pilothouse.cli.durations import TimeLimit
from pilothouse.cli.evidence import evidence_lines
from pilothouse.cli.groups import connected_group, connection_options_of
from pilothouse.cli.missing import elsewhere
from pilothouse.cli.output import As, Output, print_answer, print_lines, print_rows, tell_older
from pilothouse.cli.terminal import echo
from pilothouse.cli.wording import FORCE_HINT
from pilothouse.cli.writes import existing
from pilothouse.errors import InvalidRequest
from pilothouse.states import LIVING_STATES, OperationState

app = connected_group("Operations: installs, upgrades, rollbacks, uninstalls, tests.")

_COLUMNS = ("id", "action", "state", "namespace", "release", "revision", "created_at", "text")
_WITH_CLUSTER = (*_COLUMNS[:3], "cluster", *_COLUMNS[3:])
_LEAST = ("revision", "text")
_EVENTS = ("id", "at", "attempt", "kind", "text")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HELP = "Its id; or a release of the namespace, whose newest operation it is."

Operation = Annotated[str, typer.Argument(metavar="OPERATION", help=_HELP, autocompletion=complete_operations)]
LivingOperation = Annotated[
    str, typer.Argument(metavar="OPERATION", help=_HELP, autocompletion=complete_living_operations)
]


@app.command("list")
def list_all(
    context: typer.Context,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only of this namespace.")] = "",
    release: Annotated[str, typer.Option(help="Only of this release.")] = "",
    state: Annotated[OperationState | None, typer.Option(metavar="STATE", help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Maximum number of rows, newest first.")] = 20,
    *,
    marker: Annotated[str, typer.Option(help="Go on where the command before ended, as it said.")] = "",
    all_clusters: AllClusters = False,
    output: As = Output.TABLE,
) -> None:
    """List the project's operations, newest first.

    Those of all namespaces, in the cluster that --cluster or the context names; if none does, in all.
    """
    cluster = cluster_to_list(context, all_clusters=all_clusters)
    cluster_id = clusters.id_of(context, cluster) if cluster else ""
    namespace = namespace or connection_options_of(context).get("in_namespace", "")  # before the command's name
    filters = {"cluster_id": cluster_id, "namespace": namespace, "release": release, "state": state}
    filters |= {"limit": limit, "marker": marker}
    query = urlencode({name: value for name, value in filters.items() if value})
    answer = client_of(context).get(f"/api/v1/operations?{query}")
    rows = orjson.loads(answer.content)
    if output is Output.TABLE:
        _print_list(context, [_now(row) for row in rows])
        tell_limit(context, cluster)
    else:
        print_answer(rows, output)
    tell_older(answer.next)


def _print_list(context: typer.Context, rows: list[dict[str, Any]]) -> None:
    if len({row["cluster_id"] for row in rows}) > 1:
        known = client_of(context).call("GET", "/api/v1/clusters")
        print_rows(with_clusters(rows, known), _WITH_CLUSTER, Output.TABLE, least=_LEAST)
    else:
        print_rows(rows, _COLUMNS, Output.TABLE, least=_LEAST)


def with_clusters(rows: list[dict[str, Any]], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the operations with the names of their clusters; of one that was removed, the id."""
    names = {cluster["id"]: cluster["name"] for cluster in known}
    return [{**row, "cluster": names.get(row["cluster_id"], row["cluster_id"])} for row in rows]


@app.command("show")
def show(context: typer.Context, operation: Operation, output: As = Output.TABLE) -> None:
    """Show one operation and why it failed. The evidence has logs, events and states."""
    path = _path(_id_of(context, operation))
    shown = client_of(context).call("GET", path)
    evidence = client_of(context).call("GET", f"{path}/evidence")
    shown = {**shown, "evidence": evidence}
    print_rows([_now(shown) if output is Output.TABLE else shown], _COLUMNS, output, single=True)
    if output is Output.TABLE:
        if shown["chart_digest"]:
            print_lines([f"chart {shown['chart']}, sha256:{shown['chart_digest']}"])
        for found in evidence:
            print_lines(evidence_lines(found))
        if any(found["conflicts"] for found in evidence):
            echo(f"\n{FORCE_HINT}")


@app.command("events")
def events(context: typer.Context, operation: Operation, output: As = Output.TABLE) -> None:
    """Show the events of an operation."""
    print_rows(
        client_of(context).call("GET", f"{_path(_id_of(context, operation))}/events"),
        _EVENTS,
        output,
        least=("attempt", "kind", "at"),
    )


@app.command("follow")
def follow_to_its_end(
    context: typer.Context,
    operation: Operation,
    *,
    timeout: TimeLimit = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing unless it fails.")] = False,
    output: As = Output.TABLE,
) -> None:
    """Follow an operation to its end. Ctrl-C asks whether to detach, to cancel or to go on; status 1 if it failed."""
    from pilothouse.cli.following import follow, time_limit

    operation_id = _id_of(context, operation, at_work=True)
    with time_limit(timeout, f"operation {operation_id}"):
        ended = follow(client_of(context), operation_id, quiet=quiet)
    succeeded = ended["state"] == OperationState.SUCCEEDED
    if not (quiet and succeeded):
        print_rows([ended], _COLUMNS, output, single=True)
    raise typer.Exit(0 if succeeded else 1)


@app.command("cancel")
def cancel(
    context: typer.Context,
    operation: LivingOperation,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what an install has created, as a failed release.")
    ] = False,
    output: As = Output.TABLE,
) -> None:
    """Cancel an operation. A queued one never begins; a running one is stopped and undone."""
    path = f"{_path(_id_of(context, operation, at_work=True))}/cancel"
    print_rows([client_of(context).call("POST", path, body={"keep": keep})], _COLUMNS, output, single=True)


def _now(row: dict[str, Any]) -> dict[str, Any]:
    """Return the operation for people: what it does now in the place of what it began with."""
    return {**row, "text": row["progress"] or row["text"]}


def _path(operation_id: str) -> str:
    return f"/api/v1/operations/{quote(operation_id, safe='')}"


def _id_of(context: typer.Context, operation: str, *, at_work: bool = False) -> str:
    """Return the id of an operation given by it, or the newest one of the release of this name.

    ``at_work``: an earlier one is not what is meant if another client is at work on the release.
    """
    if _ID.fullmatch(operation):
        return operation
    cluster, namespace = cluster_of(context), session_of(context).namespace
    filters = {"cluster_id": clusters.id_of(context, cluster), "namespace": namespace, "release": operation, "limit": 1}
    newest = client_of(context).call("GET", f"/api/v1/operations?{urlencode(filters)}")
    if at_work and not any(row["state"] in LIVING_STATES for row in newest):
        _refuse_locked_elsewhere(context, operation)
    for found in newest:
        return str(found["id"])
    hint = elsewhere(context, operation) or "'pilothouse operation list' shows ids"
    raise InvalidRequest(
        f"{operation!r} is neither the id of an operation nor a release with operations in namespace {namespace!r} of "
        f"cluster {cluster!r}; {hint}"
    )


def _refuse_locked_elsewhere(context: typer.Context, name: str) -> None:
    """Raise PilothouseError if something else is at work on the release; whoever may not see that is told nothing."""
    from pilothouse.cli.client import ServerRefused

    try:
        found = existing(context, name)
    except ServerRefused:
        return
    if found is not None and found["operation"] is None and found.get("elsewhere"):
        raise at_work_elsewhere(context, found)
    if found is not None and is_locked_elsewhere(found):
        raise locked_elsewhere(context, found)

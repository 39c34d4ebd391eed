"""``pilothouse wait``: until what is being done to a release has ended."""

from time import sleep
from typing import Annotated, Any

import typer

from pilothouse.cli.commands.cluster import require_cluster
from pilothouse.cli.commands.status import at_work_elsewhere, is_locked_elsewhere, locked_elsewhere, status_lines
from pilothouse.cli.connection import client_of
from pilothouse.cli.durations import TimeLimit
from pilothouse.cli.output import As, Output, print_answer, print_lines
from pilothouse.cli.releases import Name, release_path
from pilothouse.cli.terminal import echo
from pilothouse.cli.writes import existing, failure_of
from pilothouse.errors import PilothouseError
from pilothouse.states import ReleaseStatus


def wait(
    context: typer.Context,
    name: Name,
    *,
    status: Annotated[
        ReleaseStatus, typer.Option("--for", metavar="STATUS", help="The status that it is to have then.")
    ] = ReleaseStatus.DEPLOYED,
    timeout: TimeLimit = None,
    output: As = Output.TABLE,
) -> None:
    """Wait until what is being done to a release has ended. Status 1 unless it is deployed then, or as --for says.

    Example: pilothouse upgrade web ./chart --detach && pilothouse wait web --timeout 5m
    """
    from pilothouse.cli.following import time_limit

    with time_limit(timeout, f"what is being done to {name}"):
        found, ended = _settled(context, name, status)
    if output is not Output.TABLE:
        print_answer(found or ended, output)
    elif found is not None:
        print_lines(status_lines(context, found))
    failure = failure_to_become(status, name, found, ended)
    if failure is not None and found is not None and found["operation"] is None and found.get("elsewhere"):
        failure = at_work_elsewhere(context, found)
    if failure is not None and found is not None and is_locked_elsewhere(found):
        failure = locked_elsewhere(context, found)
    if failure is not None:
        raise failure
    if found is None and output is Output.TABLE:
        echo(f'release "{name}" uninstalled')


def failure_to_become(
    status: ReleaseStatus, name: str, found: dict[str, Any] | None, ended: dict[str, Any] | None
) -> PilothouseError | None:
    """Return why a release is not as it was waited for; None if it is. ``ended`` is the operation that was followed.

    One that is not found is uninstalled, or its install was cancelled.
    """
    failure = failure_of(ended) if ended is not None else None
    if failure is not None and (found is None or status is ReleaseStatus.DEPLOYED):
        return failure
    now, told = (found["status"], found["description"]) if found else (ReleaseStatus.UNINSTALLED, "it is gone")
    return PilothouseError(f"{name} is {now}, not {status}: {told}") if now != status else None


def _at_work(found: dict[str, Any]) -> str:
    """Return the id of the operation to follow; empty if there is none, or none that the caller may see."""
    if found["operation"]:
        return str(found["operation"]["id"])
    return str((found.get("elsewhere") or {}).get("operation_id", ""))


def _settled(
    context: typer.Context, name: str, status: ReleaseStatus
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the release when nothing is done to it any more, and the last operation that was followed."""
    from pilothouse.cli.following import follow

    client, ended = client_of(context), None
    if status is ReleaseStatus.UNINSTALLED:
        require_cluster(context)
        found = existing(context, name)
    else:
        found = client.call("GET", release_path(context, name))
    while found is not None and (at_work := _at_work(found)):
        if ended is not None and ended["id"] == at_work:
            sleep(1.0)  # of another registration: what it has left is not read yet
        else:
            ended = follow(client, at_work)
        found = existing(context, name)
    return found, ended

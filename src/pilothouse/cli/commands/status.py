"""``pilothouse status``: how a release is, as ``helm status`` tells it, and what is being done to it."""

from collections.abc import Iterator
from typing import Any

import typer

from pilothouse.cli.commands.list import chart_of, time_of
from pilothouse.cli.connection import client_of
from pilothouse.cli.output import As, Output, print_answer, print_lines
from pilothouse.cli.releases import Name, Revision, release_path


def show_status(context: typer.Context, name: Name, *, revision: Revision = None, output: As = Output.TABLE) -> None:
    """Show the status of a release. With the operation that is at work on it, and its notes.

    Example: pilothouse status web -n prod
    """
    found = client_of(context).call("GET", release_path(context, name, revision=revision))
    if output is Output.TABLE:
        print_lines(_lines(found))
    else:
        print_answer(found, output)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"NAME: {found['name']}"
    yield f"LAST DEPLOYED: {time_of(found['updated_at'])}"
    yield f"CLUSTER: {found['cluster_name']}"
    yield f"NAMESPACE: {found['namespace']}"
    yield f"STATUS: {found['status']}"
    yield f"REVISION: {found['revision'] or '(none yet)'}"
    yield f"CHART: {chart_of(found)}"
    yield f"DESCRIPTION: {found['description']}"
    if changed := found["changed_by"]:
        who = changed["user_name"] or changed["user_id"]
        yield f"CHANGED BY: {who}, {changed['cause']}, operation {changed['operation_id']}"
    if found["manager"]:
        yield f"MANAGED BY: {found['manager']}"
    if underway := found["operation"]:
        yield f"IN PROGRESS: {underway['action']} {underway['state']}: {underway['text']}"
        yield f"  follow it with: pilothouse operation follow {underway['id']}"
    if found["problem"]:
        yield f"NOT KNOWN: notes and labels: {found['problem']}"
    if found["notes"]:
        yield f"NOTES:\n{found['notes'].rstrip()}"

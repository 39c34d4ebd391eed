"""``pilothouse history``: the revisions of a release, as ``helm history`` lists them, with who made each."""

from typing import Annotated, Any, Final

import typer

from pilothouse.cli.commands.list import chart_of, time_of
from pilothouse.cli.connection import client_of
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.releases import Name, release_path

_COLUMNS: Final = ("REVISION", "UPDATED", "STATUS", "CHART", "APP VERSION", "DESCRIPTION", "CHANGED BY")


def show_history(
    context: typer.Context,
    name: Name,
    *,
    most: Annotated[int, typer.Option("--max", min=1, help="Show at most so many of the newest.")] = 256,
    output: As = Output.TABLE,
) -> None:
    """Show the revisions of a release. The oldest first, with who wrote each.

    Example: pilothouse history web -n prod
    """
    newest_first = client_of(context).call("GET", release_path(context, name, "history"))
    rows = newest_first[:most][::-1]
    if output is Output.TABLE:
        print_rows([_for_people(row) for row in rows], _COLUMNS, output, least=("APP VERSION",))
    else:
        print_answer([{**row, "chart": chart_of(row), "updated": row["updated_at"]} for row in rows], output)


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    changed = row["changed_by"] or {}
    return {
        "REVISION": row["revision"],
        "UPDATED": time_of(row["updated_at"] or ""),
        "STATUS": row["status"],
        "CHART": chart_of(row),
        "APP VERSION": row["app_version"],
        "DESCRIPTION": row["description"],
        "CHANGED BY": changed.get("user_name") or changed.get("user_id", ""),
    }

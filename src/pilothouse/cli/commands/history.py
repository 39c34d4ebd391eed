"""``pilothouse history``: the revisions of a release, as ``helm history`` lists them, with who made each."""

from typing import Annotated, Any, Final

import typer

from pilothouse.cli.commands.list import chart_of, time_of
from pilothouse.cli.connection import client_of
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.releases import Name, release_path
from pilothouse.states import Action, OperationState, ReleaseStatus

_COLUMNS: Final = ("REVISION", "UPDATED", "STATUS", "CHART", "APP VERSION", "DESCRIPTION", "CHANGED BY", "CHART DIGEST")
_FAILED_LATER: Final = "; the operation failed after that, in its checks"
#: Enough of a digest to tell archives apart; -o json has all of it.
_SHORT: Final = 12


def show_history(
    context: typer.Context,
    name: Name,
    *,
    most: Annotated[int, typer.Option("--max", min=0, help="Show at most so many of the newest; 0: all.")] = 256,
    output: As = Output.TABLE,
) -> None:
    """Show the revisions of a release. The oldest first, with who wrote each.

    Example: pilothouse history web -n prod
    """
    newest_first = client_of(context).call("GET", release_path(context, name, "history"))
    rows = newest_first[: most or None][::-1]
    if output is Output.TABLE:
        print_rows([revision_row(row) for row in rows], _COLUMNS, output, least=("CHART DIGEST", "APP VERSION"))
    else:
        print_answer([{**row, "chart": chart_of(row), "updated": row["updated_at"]} for row in rows], output)


def _failed_later(row: dict[str, Any]) -> bool:
    """Return whether the operation failed when the revision stood already: in its checks."""
    changed = row["changed_by"] or {}
    stands = row["status"] in {ReleaseStatus.DEPLOYED, ReleaseStatus.SUPERSEDED}
    return stands and changed.get("state") == OperationState.FAILED and changed["cause"] in set(Action)


def revision_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of a revision, by the names of the columns."""
    changed = row["changed_by"] or {}
    return {
        "REVISION": row["revision"],
        "UPDATED": time_of(row["updated_at"] or ""),
        "STATUS": row["status"],
        "CHART": chart_of(row),
        "APP VERSION": row["app_version"],
        "DESCRIPTION": row["description"] + (_FAILED_LATER if _failed_later(row) else ""),
        "CHANGED BY": changed.get("user_name") or changed.get("user_id") or "another client",
        "CHART DIGEST": row["chart_digest"][:_SHORT],
    }

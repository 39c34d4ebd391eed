"""``pilothouse drift``: what objects in the cluster are that the release does not say."""

import typer

from pilothouse.cli.commands.diff import change_lines, differs, end_with_changes, exit_options
from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import takes
from pilothouse.cli.hints import typed
from pilothouse.cli.output import As, Output, print_answer, print_lines
from pilothouse.cli.releases import Name, release_path
from pilothouse.cli.terminal import echo
from pilothouse.states import Action


@takes(exit_options)
def drift(context: typer.Context, name: Name, *, output: As = Output.TABLE) -> None:
    """Compare a release with its objects in the cluster. What defaults and controllers set is no drift.

    'upgrade --force-conflicts' or 'rollback --force-conflicts' mends it; without the flag they fail at fields that
    somebody else has set. Example: pilothouse drift web -n prod --detailed-exitcode
    """
    found = client_of(context).call("GET", release_path(context, name, "diff", to="live"))
    if output is Output.TABLE:
        print_lines([f"{name}: revision {found['from_revision']} to what is in the cluster", *change_lines(found)])
        if count := found.get("uncreated"):
            echo(
                f"revision {found['from_revision']} failed: {count} of its objects {'is' if count == 1 else 'are'} not "
                "there (-); never created, or removed since",
                err=True,
            )
        if differs(found):
            mends = typed(context, Action.UPGRADE, name, "--reuse-chart", "--reuse-values", "--force-conflicts")
            echo(f"puts back what the release says: {mends}; what it does not say, such as a label, stays", err=True)
    else:
        print_answer(found, output)
    end_with_changes(context, found)

"""``pilothouse rollback``: a release becomes what an earlier revision was, with the flags of ``helm rollback``."""

from typing import Annotated, Any

import typer

from pilothouse.cli.commands.status import in_helms_words
from pilothouse.cli.completion import complete_revisions
from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import takes
from pilothouse.cli.output import As, Output, print_answer
from pilothouse.cli.plans import dry_run_options, is_dry_run, show_plan
from pilothouse.cli.releases import Name, release_path
from pilothouse.cli.terminal import echo
from pilothouse.cli.writes import (
    check_options,
    detach_options,
    finish,
    force_options,
    history_options,
    hook_options,
    job_options,
    start,
    wait_options,
    write_body,
)


@takes(
    wait_options,
    detach_options,
    dry_run_options,
    job_options,
    hook_options,
    force_options,
    history_options,
    check_options,
)
def rollback(
    context: typer.Context,
    name: Name,
    revision: Annotated[
        int,
        typer.Argument(
            metavar="[REVISION]",
            min=0,
            help="The revision to go back to; 0: the last one before it that was deployed.",
            autocompletion=complete_revisions,
        ),
    ] = 0,
    *,
    output: As = Output.TABLE,
) -> None:
    """Roll a release back to an earlier revision. Followed to its end; status 1 if it fails.

    Examples: pilothouse rollback web -n prod; pilothouse rollback web 3 -n prod --wait
    """
    body: dict[str, Any] = {**({"revision": revision} if revision else {}), "options": write_body(context)}
    if is_dry_run(context):
        show_plan(context, name, {"rollback": body}, output)
        return
    ended = finish(context, start(context, "POST", release_path(context, name, "rollback"), body), output)
    if ended is None:
        return
    if output is Output.TABLE:
        echo(f"Rollback was a success! Happy Helming! Revision {ended['revision']} of {name}: {ended['text']}")
    else:
        found = client_of(context).call("GET", release_path(context, name, revision=ended["revision"]))
        print_answer(in_helms_words(found), output)

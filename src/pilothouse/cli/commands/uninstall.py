"""``pilothouse uninstall``: releases and their objects are removed, with the flags of ``helm uninstall``."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from pilothouse.cli.commands.cluster import require_cluster
from pilothouse.cli.completion import complete_releases
from pilothouse.cli.exits import ExitStatus, NoServer, UsageError
from pilothouse.cli.groups import takes
from pilothouse.cli.hints import typed
from pilothouse.cli.missing import with_hint
from pilothouse.cli.output import As, Output, print_answer
from pilothouse.cli.plans import show_plan
from pilothouse.cli.releases import release_path
from pilothouse.cli.terminal import echo
from pilothouse.cli.writes import (
    detach_options,
    existing,
    failure_of,
    finish,
    followed,
    hook_options,
    is_gone,
    start,
    wait_options,
    write_body,
    write_options,
)
from pilothouse.errors import PilothouseError
from pilothouse.states import LIVING_STATES, Action, OperationState, ReleaseStatus


class Cascade(StrEnum):
    """What happens to the dependents of removed objects."""

    BACKGROUND = "background"
    ORPHAN = "orphan"
    FOREGROUND = "foreground"


@takes(wait_options, detach_options, hook_options, write_options)
def uninstall(
    context: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="The releases.", autocompletion=complete_releases)
    ],
    *,
    keep_history: Annotated[
        bool, typer.Option("--keep-history", help="Keep the revisions, so that a rollback brings it back.")
    ] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="A release that is not there is no failure.")
    ] = False,
    cascade: Annotated[
        Cascade, typer.Option("--cascade", metavar="HOW", help="Of dependents: background, orphan or foreground.")
    ] = Cascade.BACKGROUND,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what it would remove.")] = False,
    output: As = Output.TABLE,
) -> None:
    """Uninstall releases. With their objects and their history; followed to its end, status 1 if it fails.

    An install that has not ended is cancelled. If one release fails, the others are uninstalled nevertheless.

    Example: pilothouse uninstall web -n prod --keep-history
    """
    options = {
        **write_body(context),
        **({"keep_history": True} if keep_history else {}),
        **({"cascade": cascade} if cascade is not Cascade.BACKGROUND else {}),
    }
    failed = False
    for name in names:
        try:
            found = existing(context, name, required=not ignore_not_found)
            if found is None:
                require_cluster(context)
                echo(f"release {name} is not there", err=True)
            elif dry_run:
                _show_dry_run(context, found, options, output)
            else:
                _uninstall(context, name, options, output)
        except PilothouseError as error:
            if _meets_all(error, alone=len(names) == 1):
                raise
            failed = not (ignore_not_found and is_gone(context, name, error)) or failed
            echo(f"pilothouse: {with_hint(context, error)}", err=True)
    if failed:
        raise typer.Exit(ExitStatus.FAILED)


def _show_dry_run(context: typer.Context, found: dict[str, Any], options: dict[str, Any], output: Output) -> None:
    """Print what it would remove; an installation that has not ended would be cancelled."""
    name, underway = found["name"], found["operation"]
    if underway and underway["action"] == Action.INSTALL:
        if output is not Output.TABLE:
            print_answer(underway, output)
            return
        shows = typed(context, "operation", "follow", underway["id"])
        echo(
            f"the installation of release {name} is {underway['state']}: uninstall cancels it, and removes what it has "
            f"created by then; {shows} shows it"
        )
    elif not found["revision"]:
        echo(f"release {name} has no revision: nothing of it is in the cluster", err=True)
    else:
        show_plan(context, name, {"delete": {"options": options}}, output)


def _meets_all(error: PilothouseError, *, alone: bool) -> bool:
    """Return whether the next release would meet the same: not what is wrong with the name of one of several."""
    from pilothouse.cli.client import ArgumentRefused

    return isinstance(error, NoServer | UsageError) and (alone or not isinstance(error, ArgumentRefused))


def _uninstall(context: typer.Context, name: str, options: dict[str, Any], output: Output) -> None:
    path, body = release_path(context, name), {"options": options}
    operation, done = start(context, "DELETE", path, body), ReleaseStatus.UNINSTALLED.value
    if operation["action"] != Action.UNINSTALL:  # an install, which ends in its place
        ended = followed(context, operation, output) if operation["state"] in LIVING_STATES else operation
        if ended is not None:
            done = _outcome_of_install(context, name, ended, lambda: start(context, "DELETE", path, body))
    else:
        ended = finish(context, operation, output)
    if ended is None:
        return
    if output is Output.TABLE:
        echo(f'release "{name}" {done}')
    else:
        print_answer(ended, output)


def _outcome_of_install(
    context: typer.Context, name: str, install: dict[str, Any], delete: Callable[[], object]
) -> str:
    """Return what became of the release of an install that has ended; what counts is that nothing of it is left."""
    left = existing(context, name)
    if left is not None and not left["revision"]:  # only its failure, which had not ended when it was asked for
        try:
            delete()
        except PilothouseError as error:
            if not is_gone(context, name, error):
                raise
        left = existing(context, name)
    if left is not None:
        raise failure_of(install) or PilothouseError(f"uninstall: {name} was installed anew meanwhile")
    if install["state"] == OperationState.CANCELLED:
        return ReleaseStatus.UNINSTALLED.value
    return "removed; its installation had failed, and had left nothing in the cluster"

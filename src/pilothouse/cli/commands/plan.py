"""``pilothouse plan``: what an install or upgrade would change, kept so that just that can be applied."""

from typing import Annotated

import typer

from pilothouse.cli.chart_options import Names, name_and_chart, reuse_chart_options
from pilothouse.cli.commands.diff import CHANGES, exit_options
from pilothouse.cli.commands.upgrade import mode_of, reuse_options
from pilothouse.cli.deploying import deploy_body, deploy_options, plan_deploy
from pilothouse.cli.groups import options_of, takes
from pilothouse.cli.layers import value_options
from pilothouse.cli.output import As, Output
from pilothouse.cli.plans import has_changes
from pilothouse.cli.writes import (
    check_options,
    cleanup_options,
    force_options,
    history_options,
    hook_options,
    job_options,
    wait_options,
    write_options,
)


def taken_options(
    *,
    install: Annotated[bool, typer.Option("--install", "-i", hidden=True)] = False,
    detach: Annotated[bool, typer.Option("--detach", hidden=True)] = False,
    dry_run: Annotated[str | None, typer.Option("--dry-run", hidden=True)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", hidden=True)] = False,
) -> None:
    """Declare the options of upgrade that say nothing of a plan: a line with the other verb is taken as it is."""


@takes(
    exit_options,
    taken_options,
    value_options,
    wait_options,
    job_options,
    deploy_options,
    check_options,
    hook_options,
    write_options,
    force_options,
    history_options,
    cleanup_options,
    reuse_options,
    reuse_chart_options,
)
def plan(context: typer.Context, names: Names, *, output: As = Output.TABLE) -> None:
    """Show what an install or upgrade would change. The plan is kept, and 'pilothouse apply' does just that.

    Takes the flags of upgrade. Of a release that there is not it plans the install, with and without --install.

    Examples: pilothouse plan web ./chart -n prod -f values.yaml --set a.b=1; pilothouse plan web ./chart
    --detailed-exitcode
    """
    name, chart = name_and_chart(context, names)
    made = plan_deploy(context, name, chart, deploy_body(context, values_mode=mode_of(context)), output)
    if options_of(context)["detailed_exitcode"] and has_changes(made):
        raise typer.Exit(CHANGES)

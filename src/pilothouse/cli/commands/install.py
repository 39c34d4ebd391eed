"""``pilothouse install``: a chart becomes a release, with the flags of ``helm install``."""

import typer

from pilothouse.cli.chart_options import Names, name_and_chart, name_options
from pilothouse.cli.commands.status import at_work_elsewhere
from pilothouse.cli.connection import session_of
from pilothouse.cli.deploying import deploy, deploy_body, deploy_options, plan_deploy, quiet_options, require_chart
from pilothouse.cli.groups import takes
from pilothouse.cli.hints import about_operation, typed
from pilothouse.cli.layers import value_options
from pilothouse.cli.output import As, Output
from pilothouse.cli.plans import dry_run_options, is_dry_run
from pilothouse.cli.writes import (
    check_options,
    detach_options,
    existing,
    force_options,
    hook_options,
    job_options,
    wait_options,
    write_options,
)
from pilothouse.errors import InvalidRequest
from pilothouse.states import Action, ReleaseStatus


@takes(
    value_options,
    wait_options,
    detach_options,
    job_options,
    deploy_options,
    check_options,
    hook_options,
    write_options,
    force_options,
    name_options,
    dry_run_options,
    quiet_options,
)
def install(context: typer.Context, names: Names, *, output: As = Output.TABLE) -> None:
    """Install a chart as a release. Followed to its end; status 1 if it fails.

    Examples: pilothouse install web ./chart -n prod -f values.yaml --wait; pilothouse install web nginx@1.2.0 --set a=1
    """
    name, chart = name_and_chart(context, names)
    require_chart(chart)
    body = deploy_body(context)  # what is typed wrongly is told before what the server says
    plans = is_dry_run(context)
    found = existing(context, name)
    if found is not None and found["revision"] and found["status"] not in {ReleaseStatus.UNINSTALLED, ""}:
        underway = found["operation"]
        if not underway and found.get("elsewhere"):
            raise at_work_elsewhere(context, found)
        changes = f"to change it: {typed(context, Action.UPGRADE, name, chart)}"
        advice = about_operation(context, underway["id"]) if underway else changes
        raise InvalidRequest(
            f"cannot reuse a name that is still in use: {name} is {found['status']} in namespace "
            f"{session_of(context).namespace}; {advice}"
        )
    if plans:
        plan_deploy(context, name, chart, body, output)
    else:
        deploy(context, name, chart, body, output)

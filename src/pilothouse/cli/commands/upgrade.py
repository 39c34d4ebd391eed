"""``pilothouse upgrade``: a release gets another chart or other values, with the flags of ``helm upgrade``."""

from typing import Annotated, Any

import typer

from pilothouse.cli.chart_options import Names, name_and_chart, reuse_chart_options
from pilothouse.cli.connection import session_of
from pilothouse.cli.deploying import deploy, deploy_body, deploy_options, plan_deploy, quiet_options, require_chart
from pilothouse.cli.groups import options_of, takes
from pilothouse.cli.layers import value_options
from pilothouse.cli.missing import elsewhere
from pilothouse.cli.output import As, Output
from pilothouse.cli.plans import dry_run_options, is_dry_run
from pilothouse.cli.writes import (
    check_options,
    cleanup_options,
    detach_options,
    existing,
    force_options,
    history_options,
    hook_options,
    job_options,
    wait_options,
    write_options,
)
from pilothouse.errors import InvalidRequest
from pilothouse.states import ReleaseStatus


def reuse_options(
    *,
    reset_values: Annotated[
        bool, typer.Option("--reset-values", help="Take the chart's values, and none of the release's.")
    ] = False,
    reuse_values: Annotated[
        bool, typer.Option("--reuse-values", help="Keep all values of the release, also the old chart's.")
    ] = False,
    reset_then_reuse_values: Annotated[
        bool, typer.Option("--reset-then-reuse-values", help="Keep your values, on the new chart's.")
    ] = False,
) -> None:
    """Declare the options of what becomes of the values that a release has."""


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
    history_options,
    cleanup_options,
    reuse_options,
    reuse_chart_options,
    dry_run_options,
    quiet_options,
)
def upgrade(
    context: typer.Context,
    names: Names,
    *,
    install: Annotated[bool, typer.Option("--install", "-i", help="Install it if there is no such release.")] = False,
    output: As = Output.TABLE,
) -> None:
    """Upgrade a release to a chart and values. Followed to its end; status 1 if it fails.

    Without values the release keeps its own, as with helm. --install installs it if there is none.

    Examples: pilothouse upgrade --install web ./chart -n prod -f values.yaml --set a.b=1 --wait --timeout 5m;
    pilothouse upgrade web nginx@1.3.0 --reuse-values --rollback-on-failure;
    pilothouse upgrade web --reuse-chart --reuse-values --set replicas=3
    """
    name, chart = name_and_chart(context, names)
    require_chart(chart)
    body = deploy_body(context, values_mode=mode_of(context))  # what is typed wrongly is told before what is there
    plans = is_dry_run(context)
    if not install and not _has_deployed(existing(context, name)):
        from pilothouse.cli.commands.cluster import require_cluster

        require_cluster(context)
        there = elsewhere(context, name)
        raise InvalidRequest(
            f"{name!r} has no deployed releases in namespace {session_of(context).namespace}; "
            f"{f'{there}; ' if there else ''}--install makes one"
        )
    if plans:
        plan_deploy(context, name, chart, body, output)
    else:
        headline = f'Release "{name}" has been upgraded. Happy Helming!'
        deploy(context, name, chart, body, output, headline=headline)


def _has_deployed(release: dict[str, Any] | None) -> bool:
    """Return whether Helm would find a release to upgrade; of one that is uninstalled the history alone is left."""
    return release is not None and bool(release["revision"]) and release["status"] != ReleaseStatus.UNINSTALLED


def mode_of(context: typer.Context) -> str:
    """Return what becomes of the values that the release has: without any flag or value they stay, as with helm."""
    options = options_of(context)
    if options["reset_values"]:
        return "replace"
    if options["reuse_values"]:
        return "reuse"
    if options["reset_then_reuse_values"] or not any(options[kind] for kind in _VALUES):
        return "reset_then_reuse"
    return "replace"


_VALUES = ("values", "set_values", "set_string", "set_json", "set_file", "set_literal")

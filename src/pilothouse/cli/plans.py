"""Plans: what a change would do, told to people, and the request for one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from pilothouse.cli.commands.diff import change_lines, differs, field_lines
from pilothouse.cli.commands.list import time_of
from pilothouse.cli.commands.status import signer_of
from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import ExitStatus, UsageError
from pilothouse.cli.groups import options_of
from pilothouse.cli.hidden import hide_secrets
from pilothouse.cli.hints import typed
from pilothouse.cli.output import Output, print_answer, print_lines
from pilothouse.cli.releases import release_path
from pilothouse.cli.terminal import in_a_cell
from pilothouse.cli.wording import reword
from pilothouse.states import Action

_DRY_RUN: Final = frozenset({"client", "server", "true"})
_NO_DRY_RUN: Final = frozenset({"none", "false"})


def dry_run_options(
    *,
    dry_run: Annotated[
        str | None,
        typer.Option(
            "--dry-run", metavar="WHERE", help="Only print what it would change: client, server; none: do it."
        ),
    ] = None,
) -> None:
    """Declare the option of commands that can plan instead."""


def is_dry_run(context: typer.Context) -> bool:
    """Return whether ``--dry-run`` was given, and not as ``none``; for us the server renders in either case."""
    where = options_of(context)["dry_run"]
    if where not in {None, *_NO_DRY_RUN, *_DRY_RUN}:
        raise UsageError(f"--dry-run: {where!r} is none of client, server, none")
    return where in _DRY_RUN


def show_plan(context: typer.Context, name: str, body: dict[str, Any], output: Output) -> dict[str, Any]:
    """Plan the change, print the plan, and return it; ends the command with status 1 as ``print_plan`` does."""
    made: dict[str, Any] = client_of(context).call("POST", release_path(context, name, "plan"), body=body)
    if options_of(context).get("hide_secret"):
        made = hide_secrets(made)
    print_plan(context, made, output)
    return made


def print_plan(context: typer.Context, plan: dict[str, Any], output: Output) -> None:
    """Print the plan; one that cannot be applied, or would fail in the cluster, ends the command with status 1."""
    if output is Output.TABLE:
        print_lines([*plan_lines(plan), *_end_lines(context, plan)])
    else:
        print_answer(plan, output)
    if plan["findings"] or plan["refusals"]:
        raise typer.Exit(ExitStatus.FAILED)


def has_changes(plan: dict[str, Any]) -> bool:
    """Return whether the plan changes anything, against the deployed revision or in the cluster."""
    return differs(plan) or any(obj["live_change"] != "unchanged" for obj in plan["objects"])


def _chart_lines(plan: dict[str, Any]) -> Iterator[str]:
    """Return which archive the plan has, which its name does not tell."""
    if plan.get("chart_digest"):
        yield f"chart sha256:{plan['chart_digest']}{' of source ' + plan['source'] if plan['source'] else ''}"
        if verified := plan["verification"]:
            yield f"  verified: {signer_of(verified)}"


def plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    """Return the plan, line by line."""
    over = f"over revision {plan['base_revision']}" if plan["base_revision"] else "as a new release"
    chart = f" to {plan['chart_name']}-{plan['chart_version']}" if plan["chart_name"] else ""
    if plan["action"] == Action.UNINSTALL:
        over, chart = f"revision {plan['base_revision']}", ""
    elif plan["action"] == Action.ROLLBACK:
        chart = f" to revision {plan['to_revision']} ({plan['chart_name']}-{plan['chart_version']})"
    yield f"{plan['action']} of {plan['namespace']}/{plan['name']} in {plan['cluster_name']}{chart}, {over}"
    yield from _chart_lines(plan)
    objects = [{**obj, "problem": _untold(plan, obj)} for obj in plan["objects"]]
    live = [obj for obj in objects if obj["live_change"] not in {obj["change"], "unchanged"}]
    told_live = [obj["problem"] for obj in live]
    counts, *lines = change_lines(
        {**plan, "objects": [{**obj, "problem": ""} if obj["problem"] in told_live else obj for obj in objects]}
    )
    yield counts + _against(plan, len(live))
    yield from lines
    for obj in live:
        problem = f": {in_a_cell(reword(obj['problem']))}" if obj["problem"] else ""
        yield f"! in the cluster {obj['kind']} {obj['name']}: {obj['live_change']}{problem}"
        yield from field_lines(obj["live_fields"])
    yield from (f"runs hook {hook['kind']} {hook['name']}: {', '.join(hook['events'])}" for hook in plan["hooks"])
    for text in plan["warnings"]:
        yield f"{'THE CLUSTER REFUSES' if text in plan['refusals'] else 'WARNING'}: {in_a_cell(reword(text))}"
    yield from (f"CANNOT BE APPLIED: {in_a_cell(reword(text))}" for text in plan["findings"])


def _untold(plan: dict[str, Any], planned: dict[str, Any]) -> str:
    """Return what is wrong with the object, unless a warning or finding says it."""
    problem = str(planned["problem"])
    return "" if any(problem in text for text in [*plan["warnings"], *plan["findings"]]) else problem


def _against(plan: dict[str, Any], live: int) -> str:
    """Return what the counts are against, if that is not plain: a failed revision is newer than the deployed one."""
    deployed = plan.get("deployed_revision") or 0
    against = f" against revision {deployed}" if deployed and (live or deployed != plan["base_revision"]) else ""
    return f"{against}, !{live} against the cluster" if live else against


def _end_lines(context: typer.Context, plan: dict[str, Any]) -> Iterator[str]:
    """Return what becomes of the plan, or can."""
    if plan["operation_id"]:
        yield f"it was applied: {typed(context, 'operation', 'show', plan['operation_id'])}"
    elif datetime.fromisoformat(plan["expires_at"]) <= datetime.now(UTC):
        yield f"it has expired at {time_of(plan['expires_at'])}; plan again"
    elif not plan["findings"]:
        yield f"digest {plan['digest']}, for --digest after a review; apply --dry-run prints all of this again"
        until, applies = time_of(plan["expires_at"]), typed(context, "apply", plan["id"])
        if plan.get("lacks"):  # an older server does not say it
            yield f"you may not apply it, which takes {plan['lacks']}; who may, until {until}, types: {applies}"
        elif plan["refusals"]:
            yield f"it would most likely fail half-way; to apply it all the same, until {until}: {applies}"
        else:
            yield f"apply just this, until {until}, with: {applies}"

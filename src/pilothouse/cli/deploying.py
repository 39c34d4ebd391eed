"""What ``install`` and ``upgrade`` share: options, the body of the request, and what is printed at the end."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pilothouse.cli.charts import send_with_chart
from pilothouse.cli.commands.status import in_helms_words, status_lines
from pilothouse.cli.completion import complete_versions
from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import options_of
from pilothouse.cli.layers import wire_layers
from pilothouse.cli.output import Output, print_answer, print_lines
from pilothouse.cli.plans import show_plan
from pilothouse.cli.releases import release_path
from pilothouse.cli.terminal import echo
from pilothouse.cli.writes import end_if_interrupted, existing, finish, start, write_body
from pilothouse.states import Action


def deploy_options(
    *,
    version: Annotated[
        str,
        typer.Option(
            "--version",
            metavar="VERSION",
            help="Version of a chart of a source, or a range; of an uploaded one.",
            autocompletion=complete_versions,
        ),
    ] = "",
    labels: Annotated[
        list[str] | None, typer.Option("--labels", "-l", metavar="KEY=TEXT", help="Labels of the release, with commas.")
    ] = None,
    create_namespace: Annotated[
        bool, typer.Option("--create-namespace", help="Create the namespace if there is none.")
    ] = False,
    rollback_on_failure: Annotated[
        bool, typer.Option("--rollback-on-failure", help="If it fails, put back what was; implies --wait.")
    ] = False,
    atomic: Annotated[bool, typer.Option("--atomic", hidden=True)] = False,
    skip_crds: Annotated[bool, typer.Option("--skip-crds", help="Install no CRDs of crds/.")] = False,
    take_ownership: Annotated[
        bool, typer.Option("--take-ownership", help="Take over objects that exist, whosever they are.")
    ] = False,
    skip_schema_validation: Annotated[
        bool, typer.Option("--skip-schema-validation", help="Do not check the values by the chart's schema.")
    ] = False,
    hide_secret: Annotated[
        bool, typer.Option("--hide-secret", help="With --dry-run: print no Secrets and no values, with -o json either.")
    ] = False,
    hide_notes: Annotated[bool, typer.Option("--hide-notes", help="Do not print the notes.")] = False,
) -> None:
    """Declare the options of commands that deploy a chart."""


def quiet_options(
    *, quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing unless it fails.")] = False
) -> None:
    """Declare the option of commands that print a release at the end."""


def deploy_body(context: typer.Context, *, values_mode: str = "replace") -> dict[str, Any]:
    """Return the body of the request without the chart."""
    given = options_of(context)
    values, options = wire_layers(context), write_body(context)
    labels = dict(_label(pair) for listed in given["labels"] or () for pair in listed.split(","))
    if labels:
        options["labels"] = labels
    if given["skip_crds"]:
        options["crds"] = "skip"
    return {"values": values, "values_mode": values_mode, "options": options}


def require_chart(chart: str) -> None:
    """Raise UsageError if CHART is a path, and no chart is there."""
    from pilothouse.cli.local_charts import find_local

    find_local(chart)


def plan_deploy(context: typer.Context, name: str, chart: str, body: dict[str, Any], output: Output) -> dict[str, Any]:
    """Plan to make the release so, print the plan, and return it."""
    return _send(
        context,
        name,
        chart,
        lambda chosen: show_plan(context, name, {"deploy": {**chosen, **body}}, output),
    )


def deploy(
    context: typer.Context, name: str, chart: str, body: dict[str, Any], output: Output, *, headline: str = ""
) -> None:
    """Make the release so, follow that, and print the release."""
    end_if_interrupted()
    if options_of(context)["hide_secret"]:
        raise UsageError("--hide-secret: it is for --dry-run")
    started = _send(
        context,
        name,
        chart,
        lambda chosen: start(context, "PUT", release_path(context, name), {**chosen, **body}),
    )
    quiet = options_of(context)["quiet"]
    if headline and started["action"] == Action.INSTALL and not quiet:
        echo(f'Release "{name}" does not exist. Installing it now.', err=True)
    operation = finish(context, started, output)
    if operation is None or quiet:
        return
    if headline and output is Output.TABLE and operation["action"] == Action.UPGRADE:
        echo(headline)
    show_release(context, release_path(context, name), operation, output)


def _send(
    context: typer.Context, name: str, chart: str, send: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Call ``send`` with how a body names the chart; without one it is that of the newest revision, and that only."""
    if chart:
        version = options_of(context)["version"]
        return send_with_chart(context, chart, lambda reference: send({"chart": reference}), version=version)
    found = existing(context, name, required=True)
    revision = found["revision"] if found is not None else 0
    return send({"chart": {"revision": revision}, "base_revision": revision})


def show_release(context: typer.Context, path: str, operation: dict[str, Any], output: Output) -> None:
    """Print the revision that the operation has written."""
    found = client_of(context).call("GET", f"{path}?revision={operation['revision']}")
    if output is Output.TABLE:
        hidden = options_of(context).get("hide_notes")
        print_lines(status_lines(context, {**found, "notes": "" if hidden else found["notes"]}))
    else:
        print_answer(in_helms_words(found), output)


def _label(pair: str) -> tuple[str, str | None]:
    name, equals, text = pair.partition("=")
    if not equals:
        raise UsageError(f"--labels: {pair!r} must be KEY=TEXT, or KEY=null to remove one")
    return name.strip(), None if text == "null" else text

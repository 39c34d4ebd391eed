"""``pilothouse lint``: what is wrong with a chart, in the words of ``helm lint``."""

from contextlib import ExitStack
from typing import Annotated

import typer

from pilothouse.cli.completion import complete_charts
from pilothouse.cli.connection import session_of
from pilothouse.cli.groups import takes
from pilothouse.cli.layers import layers_of, value_options
from pilothouse.cli.local_charts import chart_file, print_text, run_engine


@takes(value_options)
def lint(
    context: typer.Context,
    charts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHART...]",
            help="Folders, archives, or NAME@VERSION of uploaded charts; default: this folder.",
            autocompletion=complete_charts,
        ),
    ] = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings, too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only warnings and errors.")] = False,
    with_subcharts: Annotated[bool, typer.Option("--with-subcharts", help="Lint the charts in charts/, too.")] = False,
    kube_version: Annotated[
        str, typer.Option("--kube-version", metavar="VERSION", help="Version of Kubernetes to check for.")
    ] = "",
    skip_schema_validation: Annotated[
        bool, typer.Option("--skip-schema-validation", help="Do not check the values by the chart's schema.")
    ] = False,
) -> None:
    """Find what is wrong with charts. On this machine; status 1 if there are errors.

    Examples: pilothouse lint ./chart; pilothouse lint ./chart -f values.yaml --strict
    """
    with ExitStack() as stack:
        files = [stack.enter_context(chart_file(context, chart)) for chart in charts or ["."]]
        text = run_engine(
            "lint",
            names={path: name for file in files for path, name in file.names.items()},
            paths=[file.path for file in files],
            values=layers_of(context),
            namespace=session_of(context).namespace,
            kube_version=kube_version,
            skip_schema_validation=skip_schema_validation,
            strict=strict,
            quiet=quiet,
            with_subcharts=with_subcharts,
        )
    print_text(text)

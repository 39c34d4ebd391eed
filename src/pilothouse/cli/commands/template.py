"""``pilothouse template``: what a chart and values become, as ``helm template`` prints it."""

from typing import Annotated, Final

import typer

from pilothouse.cli.chart_options import ChartVersion, Names, name_and_chart, name_options
from pilothouse.cli.connection import session_of
from pilothouse.cli.groups import options_of, takes
from pilothouse.cli.layers import layers_of, value_options
from pilothouse.cli.local_charts import chart_file, print_text, run_engine

_SWITCHES: Final = ("include_crds", "skip_tests", "no_hooks", "is_upgrade", "enable_dns", "debug")


def render_options(
    *,
    version: ChartVersion = "",
    show_only: Annotated[
        list[str] | None,
        typer.Option("--show-only", "-s", metavar="FILE", help="Print only what this template makes; repeatable."),
    ] = None,
    kube_version: Annotated[
        str, typer.Option("--kube-version", metavar="VERSION", help="Version of Kubernetes to render for.")
    ] = "",
    api_versions: Annotated[
        list[str] | None,
        typer.Option("--api-versions", "-a", metavar="API", help="API to render for; repeatable, or with commas."),
    ] = None,
    include_crds: Annotated[bool, typer.Option("--include-crds", help="Print the CRDs of crds/, too.")] = False,
    skip_tests: Annotated[bool, typer.Option("--skip-tests", help="Leave the hooks of tests out.")] = False,
    no_hooks: Annotated[bool, typer.Option("--no-hooks", help="Leave all hooks out.")] = False,
    is_upgrade: Annotated[bool, typer.Option("--is-upgrade", help="Render as an upgrade, not as an install.")] = False,
    enable_dns: Annotated[bool, typer.Option("--enable-dns", help="Let templates look up host names.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print what was rendered although its YAML is invalid.")
    ] = False,
    skip_schema_validation: Annotated[
        bool, typer.Option("--skip-schema-validation", help="Do not check the values by the chart's schema.")
    ] = False,
) -> None:
    """Declare the options of what is rendered, and how."""


@takes(render_options, name_options, value_options)
def template(context: typer.Context, names: Names) -> None:
    """Print the objects that a chart makes of values. On this machine: no cluster is asked, nothing is uploaded.

    Examples: pilothouse template web ./chart -f values.yaml; pilothouse template ./chart -s templates/service.yaml
    """
    name, chart = name_and_chart(context, names, optional=True)
    options = options_of(context)
    with chart_file(context, chart, version=options["version"]) as file:
        text = run_engine(
            "template",
            names=file.names,
            paths=[file.path],
            values=layers_of(context),
            namespace=session_of(context).namespace,
            kube_version=options["kube_version"],
            skip_schema_validation=options["skip_schema_validation"],
            template={
                "name": name,
                "api_versions": [api for listed in options["api_versions"] or () for api in listed.split(",")],
                "show_only": options["show_only"] or [],
                **{switch: options[switch] for switch in _SWITCHES},
            },
        )
    print_text(text)

"""``pilothouse show …``: parts of a chart, as ``helm show`` prints them."""

from typing import Annotated

import typer

from pilothouse.cli.chart_options import ChartVersion
from pilothouse.cli.completion import complete_charts
from pilothouse.cli.groups import connected_group
from pilothouse.cli.local_charts import chart_file, print_text, run_engine

app = connected_group("Print parts of a chart: its definition, values, readme, CRDs.")

Chart = Annotated[
    str,
    typer.Argument(
        metavar="CHART",
        help="A folder or archive, SOURCE/NAME, oci://…, or NAME@VERSION or id of an uploaded chart.",
        autocompletion=complete_charts,
    ),
]


@app.command("all")
def everything(context: typer.Context, chart: Chart, *, version: ChartVersion = "") -> None:
    """Print all of a chart that the other commands print."""
    _show(context, "all", chart, version)


@app.command("chart")
def definition(context: typer.Context, chart: Chart, *, version: ChartVersion = "") -> None:
    """Print the definition of a chart, which is its Chart.yaml."""
    _show(context, "chart", chart, version)


@app.command("values")
def values(
    context: typer.Context,
    chart: Chart,
    *,
    version: ChartVersion = "",
    json_path: Annotated[str, typer.Option("--jsonpath", metavar="PATH", help="Print only what this finds.")] = "",
) -> None:
    """Print the default values of a chart, with their comments.

    Example: pilothouse show values ./chart > values.yaml
    """
    _show(context, "values", chart, version, json_path=json_path)


@app.command("readme")
def readme(context: typer.Context, chart: Chart, *, version: ChartVersion = "") -> None:
    """Print the readme of a chart."""
    _show(context, "readme", chart, version)


@app.command("crds")
def crds(context: typer.Context, chart: Chart, *, version: ChartVersion = "") -> None:
    """Print the CRDs of a chart."""
    _show(context, "crds", chart, version)


def _show(context: typer.Context, part: str, chart: str, version: str, *, json_path: str = "") -> None:
    with chart_file(context, chart, version=version) as file:
        print_text(run_engine("show", names=file.names, paths=[file.path], format=part, json_path=json_path))

"""Arguments and options of commands that make a release of a chart: its name, the chart, the version."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pilothouse.cli.completion import complete_release_then_chart
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import options_of

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME] CHART",
        help="The release, and its chart: a folder or archive, SOURCE/NAME, oci://…, or NAME@VERSION.",
        autocompletion=complete_release_then_chart,
    ),
]
ChartVersion = Annotated[
    str,
    typer.Option(
        "--version", metavar="VERSION", help="Version of a chart of a source, or a range; of an uploaded one."
    ),
]
_TWO = 2


def name_options(
    *,
    generate_name: Annotated[
        bool, typer.Option("--generate-name", "-g", help="Make a name of the chart's, and leave NAME out.")
    ] = False,
    name_template: Annotated[
        str, typer.Option("--name-template", metavar="TEMPLATE", help="Make the name by a template.")
    ] = "",
) -> None:
    """Declare the options of commands that can make the name of a release."""


def reuse_chart_options(
    *,
    reuse_chart: Annotated[
        bool, typer.Option("--reuse-chart", help="Take the chart that the release stores, and leave CHART out.")
    ] = False,
) -> None:
    """Declare the option of commands that can change a release without a chart."""


def name_and_chart(context: typer.Context, names: list[str], *, optional: bool = False) -> tuple[str, str]:
    """Return name and chart, in Helm's order; ``optional``: without a name it is that of ``helm template``."""
    options = options_of(context)
    made = options.get("generate_name") or options.get("name_template")
    if len(names) > _TWO:
        raise UsageError(f"NAME and CHART are expected, and there are {len(names)} words: {' '.join(names)}")
    if options.get("reuse_chart"):
        if len(names) == _TWO or options.get("version"):
            raise UsageError("--reuse-chart: the chart is the release's, so CHART and --version do not go with it")
        return names[0], ""
    if len(names) == _TWO:
        if made:
            raise UsageError("cannot set --generate-name or --name-template and also specify a name")
        return names[0], names[1]
    if options.get("name_template"):
        from pilothouse.cli.local_charts import run_engine

        return run_engine("name", template={"name": options["name_template"]}), names[0]
    if options.get("generate_name"):
        base = Path(names[0]).resolve().name if names[0].startswith(".") else names[0].rpartition("/")[2]
        stem = base.partition("@")[0].removesuffix(".tgz").removesuffix(".tar.gz").partition(".")[0] or "chart"
        return f"{stem}-{int(datetime.now(UTC).timestamp())}", names[0]
    if optional:
        return "release-name", names[0]
    if "reuse_chart" in options:
        raise UsageError("CHART is missing: NAME CHART, in this order; or --reuse-chart for the release's own")
    raise UsageError("must either provide a name or specify --generate-name: NAME CHART, in this order")

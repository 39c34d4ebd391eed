"""``pilothouse pull``: the archive of a chart, from where the server has it."""

from pathlib import Path
from typing import Annotated

import typer

from pilothouse.cli.chart_options import ChartVersion
from pilothouse.cli.charts import uploaded_id
from pilothouse.cli.completion import complete_charts
from pilothouse.cli.connection import client_of
from pilothouse.cli.downloads import save
from pilothouse.cli.sources import is_of_source, pulled_id
from pilothouse.cli.terminal import echo
from pilothouse.errors import PilothouseError


def pull(
    context: typer.Context,
    chart: Annotated[
        str,
        typer.Argument(
            metavar="CHART", help="SOURCE/NAME, oci://…, or an uploaded chart.", autocompletion=complete_charts
        ),
    ],
    *,
    version: ChartVersion = "",
    destination: Annotated[
        Path, typer.Option("--destination", "-d", metavar="FOLDER", help="Where to write the archive.")
    ] = Path(),
) -> None:
    """Download a chart.

    Its archive is written as NAME-VERSION.tgz. The server pulls it from its source if it has it not.

    Example: pilothouse pull bitnami/redis --version ~20.1 -d /tmp
    """
    find = pulled_id if is_of_source(chart) else uploaded_id
    client, chart_id = client_of(context), find(context, chart, version=version)
    row = client.call("GET", f"/v2/charts/{chart_id}")
    target = destination / f"{row['name']}-{row['version']}.tgz"
    content = client.get(f"/v2/charts/{chart_id}/archive").content
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PilothouseError(f"cannot write {target}: {error.strerror}") from error
    save(target, content)
    echo(str(target))

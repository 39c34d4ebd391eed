"""The command line, one file per noun. ``serve`` is what most people need."""

import sys

import typer

from pilothouse import __version__
from pilothouse.cli import chart, cluster, processes, serve
from pilothouse.errors import PilothouseError

app = typer.Typer(
    name="pilothouse",
    help="A Helm release server that speaks Huawei Cloud CCE's chart and release API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("migrate")(processes.migrate)
app.command("api", hidden=True)(processes.api)
app.command("worker", hidden=True)(processes.worker)
app.add_typer(cluster.app, name="cluster")
app.add_typer(chart.app, name="chart")


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Runs the command line; a failure that we know ends with its text and status 1, never with a traceback."""
    try:
        app()
    except PilothouseError as error:
        typer.echo(f"pilothouse: {error}", err=True)
        sys.exit(1)

"""The command line, one file per noun. Most users need only ``serve``.

A command imports what it needs when it runs: ``--help`` and ``version`` must not load the server, which takes a second.
"""

import sys
from typing import Annotated

import typer

from pilothouse import __version__
from pilothouse.cli.commands import (
    accesskey,
    audit,
    backup,
    chart,
    cluster,
    doctor,
    key,
    operation,
    project,
    release,
    server,
    token,
    user,
)
from pilothouse.cli.terminal import echo
from pilothouse.errors import PilothouseError

app = typer.Typer(
    name="pilothouse",
    help="A Helm release server that implements Huawei Cloud CCE's chart and release API.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # what draws boxes takes 60 ms to load
    pretty_exceptions_enable=False,
)
app.command("serve")(server.serve)
app.command("migrate")(server.migrate)
app.command("doctor")(doctor.doctor)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("prepare", hidden=True)(server.prepare)
app.command("api", hidden=True)(server.api)
app.command("worker", hidden=True)(server.worker)
app.command("observer", hidden=True)(server.observer)
app.add_typer(cluster.app, name="cluster")
app.add_typer(chart.app, name="chart")
app.add_typer(release.app, name="release")
app.add_typer(operation.app, name="operation")
app.add_typer(key.app, name="key")
app.add_typer(user.app, name="user")
app.add_typer(accesskey.app, name="accesskey")
app.add_typer(token.app, name="token")
app.add_typer(project.app, name="project")
app.add_typer(audit.app, name="audit")


@app.command("version")
def version(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Include the versions of Helm, Go and Python.")] = False,
) -> None:
    """Print the version."""
    echo(__version__)
    if everything:
        from pilothouse.engine.versions import read_versions

        for name, number in read_versions().items():
            echo(f"{name} {number}")


def main() -> None:
    """Run the command line; a known error ends with its message and status 1, never with a traceback."""
    try:
        app()
    except PilothouseError as error:
        echo(f"pilothouse: {error}", err=True)
        sys.exit(1)

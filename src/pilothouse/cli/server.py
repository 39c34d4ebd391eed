"""The commands that run the server, or a part of it."""

from pathlib import Path
from typing import Annotated

import typer

Parent = Annotated[int, typer.Option("--parent", hidden=True, help="End when this process does.")]
Name = Annotated[str, typer.Option("--name", hidden=True, help="Go on with what the last worker of this name held.")]


def serve(
    first_credentials: Annotated[
        Path | None,
        typer.Option(help="File (0600) for the access key that the first start makes, instead of the screen."),
    ] = None,
) -> None:
    """Run the whole server on this machine. PostgreSQL, API, observer and worker; Ctrl-C or SIGTERM stops all of it."""
    from pilothouse.cli.serve import run_all

    run_all(first_credentials)


def prepare(
    *,
    parent: Parent = 0,
    embedded: Annotated[bool, typer.Option("--embedded", hidden=True)] = False,
    first_credentials: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Do what is done once before PILOTHOUSE_DATABASE_URL is served from: schema, certificate, first account."""
    from pilothouse.cli.prepare import prepare_installation

    prepare_installation(parent, is_embedded=embedded, first_credentials=first_credentials)


def api(parent: Parent = 0) -> None:
    """Serve the HTTP API alone, against PILOTHOUSE_DATABASE_URL."""
    from pilothouse.cli.processes import run_api_process

    run_api_process(parent)


def worker(parent: Parent = 0, name: Name = "") -> None:
    """Carry out accepted operations, against PILOTHOUSE_DATABASE_URL."""
    from pilothouse.cli.processes import run_worker_process

    run_worker_process(parent, name=name)


def observer(parent: Parent = 0) -> None:
    """Keep the index of releases by watching the clusters, against PILOTHOUSE_DATABASE_URL."""
    from pilothouse.cli.processes import run_observer_process

    run_observer_process(parent)


def migrate() -> None:
    """Bring the database to this version's schema. Without PILOTHOUSE_DATABASE_URL, the embedded one."""
    from pilothouse.cli.migrate import migrate_database

    migrate_database()

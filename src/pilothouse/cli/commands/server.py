"""Commands that run the server or one of its processes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

Parent = Annotated[int, typer.Option("--parent", hidden=True, help="Stop when this process ends.")]
Name = Annotated[
    str, typer.Option("--name", hidden=True, help="Resume the operations of the last worker of this name.")
]


def serve(
    first_credentials: Annotated[
        Path | None,
        typer.Option(help="File (0600) for the access key that the first start creates; default: the screen."),
    ] = None,
) -> None:
    """Run the whole server on this machine. PostgreSQL, API, observer and worker; Ctrl-C or SIGTERM stops them."""
    _leave_out_unused()
    from pilothouse.cli.serve import run_all

    run_all(first_credentials)


def prepare(
    *,
    parent: Parent = 0,
    embedded: Annotated[bool, typer.Option("--embedded", hidden=True)] = False,
    first_credentials: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Prepare PILOTHOUSE_DATABASE_URL for serving, once: schema, certificate, first account."""
    from pilothouse.cli.prepare import prepare_installation

    prepare_installation(parent, is_embedded=embedded, first_credentials=first_credentials)


def api(parent: Parent = 0) -> None:
    """Run only the HTTP API, with PILOTHOUSE_DATABASE_URL."""
    _leave_out_unused()
    from pilothouse.cli.processes import run_api_process

    run_api_process(parent)


def worker(parent: Parent = 0, name: Name = "") -> None:
    """Run only a worker, which carries out accepted operations, with PILOTHOUSE_DATABASE_URL."""
    _leave_out_unused()
    from pilothouse.cli.processes import run_worker_process

    run_worker_process(parent, name=name)


def observer(parent: Parent = 0) -> None:
    """Run only an observer, which watches the clusters for the release index, with PILOTHOUSE_DATABASE_URL."""
    _leave_out_unused()
    from pilothouse.cli.processes import run_observer_process

    run_observer_process(parent)


def migrate() -> None:
    """Migrate the database to this version's schema. Without PILOTHOUSE_DATABASE_URL, the embedded one."""
    from pilothouse.cli.migrate import migrate_database

    migrate_database()


def _leave_out_unused() -> None:
    """Keep libraries from loading what nothing here uses, 10 MB of each process.

    structlog draws tracebacks with rich: our logs have them as text. SQLAlchemy's package of asyncio loads its ORM: an
    empty one in its place lets ``store.database`` import the one module that it needs.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # None: importing it raises ImportError
    found = importlib.util.find_spec("sqlalchemy")
    package = ModuleType("sqlalchemy.ext.asyncio")
    package.__path__ = [f"{folder}/ext/asyncio" for folder in (found and found.submodule_search_locations) or ()]
    sys.modules.setdefault(package.__name__, package)

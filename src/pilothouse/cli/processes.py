"""One process each: API, worker, observer. ``pilothouse serve`` starts and watches them.

Little is imported here: what a worker has to load before it works is how long operations stand still when one dies.
"""

from pilothouse.cli.configuration import read_settings
from pilothouse.cli.logs import configure_logs
from pilothouse.errors import DatabaseUnavailable
from pilothouse.liveness import die_with_parent
from pilothouse.settings import Settings


def run_api_process(parent: int) -> None:
    """Serves the HTTP API until it is told to stop, and ends with the process ``parent`` unless that is 0."""
    from pilothouse.app import run_api

    settings = _prepare(parent)
    run_api(settings, database_url=_database_url(settings))


def run_worker_process(parent: int, *, name: str) -> None:
    """Carries out operations until it is told to stop, and ends with the process ``parent`` unless that is 0.

    ``name``: what a supervisor calls it, so that it goes on with what it held in its life before; or empty.
    """
    from pilothouse.daemons import run_worker

    settings = _prepare(parent)
    run_worker(settings, database_url=_database_url(settings), name=name)


def run_observer_process(parent: int) -> None:
    """Keeps the release index until it is told to stop, and ends with the process ``parent`` unless that is 0."""
    from pilothouse.daemons import run_observer

    settings = _prepare(parent)
    run_observer(settings, database_url=_database_url(settings))


def _prepare(parent: int) -> Settings:
    if parent:
        die_with_parent(parent)
    settings = read_settings()
    configure_logs(settings)
    return settings


def _database_url(settings: Settings) -> str:
    if settings.database_url is None:
        raise DatabaseUnavailable(
            "PILOTHOUSE_DATABASE_URL is not set; set it, or run 'pilothouse serve', which brings its own database"
        )
    return settings.database_url.get_secret_value()

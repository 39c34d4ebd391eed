"""Entry points of API, worker and observer processes. ``pilothouse serve`` starts and supervises them.

Few imports, because operations are delayed by what a worker has to load after its predecessor died.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pilothouse.cli.configuration import read_settings
from pilothouse.cli.logs import configure_logs
from pilothouse.errors import DatabaseUnavailable
from pilothouse.liveness import die_with_parent
from pilothouse.malloc import bound_malloc
from pilothouse.settings import Settings

#: After each system call the event loop waits so long for a thread that computes; the default is 5 ms.
_SWITCH_SECONDS: Final = 0.0005


def run_api_process(parent: int) -> None:
    """Serve the HTTP API until told to stop, or until the process ``parent`` ends unless that is 0."""
    settings = _prepare(parent)
    with _loading():
        from pilothouse.app import run_api

    run_api(settings, database_url=_database_url(settings, parent))


def run_worker_process(parent: int, *, name: str) -> None:
    """Carry out operations until told to stop, or until the process ``parent`` ends unless that is 0.

    ``name``: the supervisor's name for it, under which it resumes its predecessor's operations; or empty.
    """
    settings = _prepare(parent)
    with _loading():
        from pilothouse.daemons import run_worker

    run_worker(settings, database_url=_database_url(settings, parent), name=name)


def run_observer_process(parent: int) -> None:
    """Maintain the release index until told to stop, or until the process ``parent`` ends unless that is 0."""
    settings = _prepare(parent)
    with _loading():
        from pilothouse.daemons import run_observer

    run_observer(settings, database_url=_database_url(settings, parent))


@contextmanager
def _loading() -> Iterator[None]:
    """Load without collecting garbage: there is next to none, and the looking takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _prepare(parent: int) -> Settings:
    if parent:
        die_with_parent(parent)
    bound_malloc()
    settings = read_settings()
    configure_logs(settings)
    sys.setswitchinterval(_SWITCH_SECONDS)
    return settings


def _database_url(settings: Settings, parent: int) -> str:
    """Return the database's address; that the way to it will do was seen to by ``prepare``, if a supervisor ran it."""
    if settings.database_url is None:
        raise DatabaseUnavailable(
            "PILOTHOUSE_DATABASE_URL is not set; set it, or run 'pilothouse serve', which brings its own database"
        )
    url = settings.database_url.get_secret_value()
    if not parent:
        from pilothouse.store.poolers import refuse_shared_sessions

        refuse_shared_sessions(url)
    return url

"""``pilothouse serve``: database, API, observer and worker on this machine, under one supervisor."""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import httpx2
import structlog
from rich.console import Console
from rich.panel import Panel

from pilothouse.api.health import HEALTH_PATH
from pilothouse.auth.sealing import MasterKeys
from pilothouse.cli.configuration import read_settings
from pilothouse.cli.logs import configure_logs
from pilothouse.errors import DatabaseUnavailable
from pilothouse.gateway.listeners import certificate_files, endpoints
from pilothouse.keepers import Backoff, Part, PartEvent, WatchedService
from pilothouse.liveness import Liveness
from pilothouse.services.identity import FirstCredentials, Identity
from pilothouse.settings import Settings
from pilothouse.store.database import Database
from pilothouse.store.database_grants import grant_to_application
from pilothouse.store.migration import migrate
from pilothouse.store.postgres import EmbeddedPostgres
from pilothouse.supervisor import Supervisor

log = structlog.get_logger(__name__)

#: A worker that lived so long was no failed start, and the next one starts at once.
_WORKER_LIVES_SECONDS = 5.0


def run_all(first_credentials: Path | None) -> None:
    """Runs everything until it is told to stop; the first access key goes to the file, or to the screen."""
    settings = read_settings()
    configure_logs(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    listening = endpoints(settings)
    if settings.tls.port:
        certificate_files(settings)  # refused now, not by the third death of the API
    # Until the supervisor listens, SIGTERM must end us as Ctrl-C does: with the database stopped behind us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    postgres = None
    if settings.database_url is None:
        postgres = EmbeddedPostgres(settings.postgres, data_dir=settings.data_dir)
    try:
        url = postgres.start() if postgres is not None else _given_url(settings)
        before, after = migrate(Database(url))
        if before != after:
            log.info("database_migrated", before=before, after=after)
        if postgres is not None:
            grant_to_application(Database(url))
        first = asyncio.run(_create_first(settings, url))
        if first is not None:
            _hand_over(first, first_credentials)
        _supervise(
            settings,
            postgres.application_url if postgres is not None else url,
            postgres,
            [endpoint.url for endpoint in listening],
        )
    finally:
        if postgres is not None:
            postgres.stop()
            log.info("postgres_stopped")


def _given_url(settings: Settings) -> str:
    if settings.database_url is None:
        raise DatabaseUnavailable("PILOTHOUSE_DATABASE_URL is not set")
    return settings.database_url.get_secret_value()


async def _create_first(settings: Settings, url: str) -> FirstCredentials | None:
    database = Database(url)
    try:
        keys = MasterKeys.load_or_create(settings.master_key)
        return await Identity(database, keys).create_first(
            region=settings.region,
            domain_name=settings.identity.first_domain,
            user_name=settings.identity.first_user,
        )
    finally:
        await database.close()


def _supervise(settings: Settings, url: str, postgres: EmbeddedPostgres | None, addresses: list[str]) -> None:
    environment = {
        **os.environ,
        **module_path(),
        "PILOTHOUSE_DATABASE_URL": url,
        "PILOTHOUSE_DATA_DIR": str(settings.data_dir),
    }
    command = [sys.executable, "-P", "-m", "pilothouse"]
    liveness = Liveness(
        silent_seconds=settings.supervisor.silent_seconds, start_seconds=settings.supervisor.start_seconds
    )
    parent = ["--parent", str(os.getpid())]
    parts: list[Part | WatchedService] = [
        Part(
            name="api",
            argv=[*command, "api", *parent],
            env=environment,
            wait_until_ready=lambda: _answers(addresses[0] + HEALTH_PATH),
            stop_seconds=15.0,
            liveness=liveness,
        ),
        Part(
            name="observer",
            argv=[*command, "observer", *parent],
            env=environment,
            stop_seconds=10.0,
            liveness=liveness,
        ),
        Part(
            name="worker",
            # Nobody else's worker has this name: what its last life held, the next may take without waiting.
            argv=[*command, "worker", *parent, "--name", f"{socket.gethostname()}-{secrets.token_hex(4)}"],
            env=environment,
            stop_seconds=settings.worker.drain_seconds + 10.0,
            # Operations wait for it, and one that kills it again and again is given up after a few times.
            backoff=Backoff(forget_after=_WORKER_LIVES_SECONDS),
            liveness=liveness,
        ),
    ]
    if postgres is not None:
        parts.insert(0, WatchedService(name="postgres", service=postgres))
    Supervisor(parts, on_event=lambda event: _announce(event, addresses)).run()


def module_path() -> dict[str, str]:
    """PYTHONPATH for the parts without what stands for the current folder: ``-P`` leaves that in."""
    given = os.environ.get("PYTHONPATH")
    if given is None:
        return {}
    return {"PYTHONPATH": os.pathsep.join(path for path in given.split(os.pathsep) if Path(path).is_absolute())}


async def _answers(url: str) -> None:
    # Nothing secret is asked or believed, and a given certificate need not be for the name that we call it by.
    async with httpx2.AsyncClient(trust_env=False, timeout=2.0, verify=False) as http:
        while True:
            with suppress(httpx2.HTTPError):
                if (await http.get(url)).is_success:
                    return
            await asyncio.sleep(0.05)


def _announce(event: PartEvent, addresses: list[str]) -> None:
    if event.part == "worker" and event.kind == "part_ready":
        log.info("serving", urls=addresses, stop="Ctrl-C")


def _hand_over(first: FirstCredentials, file: Path | None) -> None:
    """Shows what the first start made, once: on the screen, or in a file that only we may read."""
    if file is not None:
        with suppress(FileNotFoundError):
            file.unlink()
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            json.dump(vars(first), out)
        return
    text = (
        f"account     {first.domain_name}\n"
        f"project     {first.project_name}  {first.project_id}\n"
        f"user        {first.user_name}\npassword    {first.password}\n"
        f"access key  {first.access_key}\nsecret key  {first.secret_key}"
    )
    Console(stderr=True).print(Panel(text, title="Made at first start, shown only now: keep it", expand=False))

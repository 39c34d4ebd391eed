"""``pilothouse serve``: database, API, observer and worker on this machine, under one supervisor.

Few imports: this process only supervises the others and should need little memory.
"""

import asyncio
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from pilothouse.cli.configuration import make_data_folder, read_settings, refuse_unknown_variables
from pilothouse.cli.logs import configure_logs
from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.errors import DatabaseUnavailable
from pilothouse.http.endpoints import HEALTH_PATH, Endpoint, endpoints, refuse_taken
from pilothouse.keepers import Backoff, ManagedProcess, ProcessEvent, WatchedService
from pilothouse.liveness import Liveness
from pilothouse.settings import Settings
from pilothouse.supervisor import Supervisor

log = structlog.get_logger(__name__)

#: A worker that lived so long was no failed start, and the next one starts at once.
_WORKER_LIVES_SECONDS = 5.0
#: The API of a killed Pilothouse may hold its port for a moment.
_PORT_SECONDS: Final = 3.0
_COMMAND: Final = (sys.executable, "-P", "-m", "pilothouse")


def run_all(first_credentials: Path | None) -> None:
    """Run everything until told to stop; the first access key goes to the file, or to the screen."""
    refuse_unknown_variables()
    settings = read_settings()
    configure_logs(settings)
    make_data_folder(settings.data_dir)
    listening = endpoints(settings)
    # Whoever has our port would answer for us, and we would report his health.
    asyncio.run(refuse_taken(listening, patience_seconds=_PORT_SECONDS))
    # Until the supervisor listens, SIGTERM must end us as Ctrl-C does: with the database stopped behind us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    postgres = None
    if settings.database_url is None:
        postgres = EmbeddedPostgres(settings.postgres, data_dir=settings.data_dir)
    try:
        url = postgres.start() if postgres is not None else _given_url(settings)
        _prepare(settings, url, first_credentials)
        _supervise(
            settings,
            postgres.application_url if postgres is not None else url,
            postgres,
            listening,
        )
    except BaseException:
        if postgres is not None:
            with suppress(DatabaseUnavailable):  # what happened first says more
                postgres.stop()
                log.info("postgres_stopped")
        raise
    if postgres is not None:
        postgres.stop()
        log.info("postgres_stopped")


def _given_url(settings: Settings) -> str:
    if settings.database_url is None:
        raise DatabaseUnavailable("PILOTHOUSE_DATABASE_URL is not set")
    return settings.database_url.get_secret_value()


def _prepare(settings: Settings, url: str, first_credentials: Path | None) -> None:
    """Run the one-time preparation in a separate process, so that this long-lived one does not keep its memory.

    Raises SystemExit if it fails; it has already printed the reason.
    """
    argv = [*_COMMAND, "prepare", "--parent", str(os.getpid())]
    if settings.database_url is None:
        argv.append("--embedded")
    if first_credentials is not None:
        argv += ["--first-credentials", str(first_credentials)]
    done = subprocess.run(argv, env=_environment(settings, url), check=False)  # noqa: S603 (our own program)
    if done.returncode:
        raise SystemExit(1)


def _environment(settings: Settings, url: str) -> dict[str, str]:
    return {
        **os.environ,
        **module_path(),
        "PILOTHOUSE_DATABASE_URL": url,
        "PILOTHOUSE_DATA_DIR": str(settings.data_dir),
    }


def _supervise(settings: Settings, url: str, postgres: EmbeddedPostgres | None, listening: list[Endpoint]) -> None:
    environment = _environment(settings, url)
    liveness = Liveness(
        silent_seconds=settings.supervisor.silent_seconds, start_seconds=settings.supervisor.start_seconds
    )
    parent = ["--parent", str(os.getpid())]
    api, observer, worker = _monitoring(settings)
    start_seconds = settings.supervisor.start_seconds
    parts: list[ManagedProcess | WatchedService] = [
        ManagedProcess(
            name="api",
            argv=[*_COMMAND, "api", *parent],
            env=environment | api,
            wait_until_ready=lambda: _answers(listening[0]),
            ready_seconds=start_seconds,
            stop_seconds=15.0,
            liveness=liveness,
        ),
        ManagedProcess(
            name="worker",
            # Nobody else's worker has this name: what its last life held, the next may take without waiting.
            argv=[*_COMMAND, "worker", *parent, "--name", f"{socket.gethostname()}-{secrets.token_hex(4)}"],
            env=environment | worker,
            ready_seconds=start_seconds,
            stop_seconds=settings.worker.drain_seconds + 10.0,
            # Operations wait for it, and one that kills it again and again is given up after a few times.
            backoff=Backoff(forget_after=_WORKER_LIVES_SECONDS),
            liveness=liveness,
        ),
        ManagedProcess(
            name="observer",
            argv=[*_COMMAND, "observer", *parent],
            env=environment | observer,
            ready_seconds=start_seconds,
            stop_seconds=10.0,
            liveness=liveness,
        ),
    ]
    if postgres is not None:
        parts.insert(0, WatchedService(name="postgres", service=postgres))
    Supervisor(parts, on_event=_Announcer(listening, last=parts[-1].name)).run()


def _monitoring(settings: Settings) -> list[dict[str, str]]:
    """Return the ports for metrics of API, observer and worker: what they have in common would be one too few."""
    first = settings.monitoring.port
    return [{"PILOTHOUSE_MONITORING__PORT": str(first + offset if first else 0)} for offset in range(3)]


def notify_systemd(message: str) -> None:
    """Tell systemd the state of this service, if it is one of ``Type=notify``.

    Source: sd_notify(3): one datagram to the address in ``NOTIFY_SOCKET``, whose ``@`` stands for an abstract one.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)  # who does not listen must not keep us from the parts
            channel.sendto(message.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)


def module_path() -> dict[str, str]:
    """Return PYTHONPATH without entries for the current folder, which ``-P`` leaves in."""
    python_path = os.environ.get("PYTHONPATH")
    if python_path is None:
        return {}
    return {"PYTHONPATH": os.pathsep.join(path for path in python_path.split(os.pathsep) if Path(path).is_absolute())}


async def _answers(endpoint: Endpoint) -> None:
    """Return when the API reports that it is healthy."""
    while True:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(2.0):
                if await _is_well(endpoint):
                    return
        await asyncio.sleep(0.05)


async def _is_well(endpoint: Endpoint) -> bool:
    tls = None
    if endpoint.scheme == "https":
        # Nothing secret is asked or believed, and a given certificate need not be for the name that we call it by.
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(endpoint.local_host, endpoint.port, ssl=tls)
    try:
        writer.write(f"GET {HEALTH_PATH} HTTP/1.1\r\nHost: {endpoint.local_host}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    finally:
        writer.close()


class _Announcer:
    """Tell systemd, and whoever reads the log, when everything does its work, and systemd what does not since."""

    def __init__(self, listening: list[Endpoint], *, last: str) -> None:
        """``last``: the part that is started when all others are ready."""
        self._listening = listening
        self._last = last
        self._failing: dict[str, str] = {}

    def __call__(self, event: ProcessEvent) -> None:
        """Take note of an event of the supervisor."""
        if event.kind == "part_ready":
            if self._failing.pop(event.part, ""):
                self._say()
        elif event.kind in {"part_died", "part_not_ready"}:
            self._failing[event.part] = f"{event.part}: {event.detail or event.kind}"
            self._say()
        if event.part == self._last and event.kind == "part_ready":
            notify_systemd("READY=1")
            log.info("serving", urls=[endpoint.url for endpoint in self._listening], stop="Ctrl-C")

    def _say(self) -> None:
        failing = ", ".join(self._failing.values())
        notify_systemd(f"STATUS=not ready: {failing}" if failing else "STATUS=ready")

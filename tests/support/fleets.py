"""Several processes of each part on one database, as in an installation of several machines.

What a scheduler of containers does is done here: a process that was killed is started again, and ready when it says so.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2
import psycopg

from pilothouse.auth.sealing import MasterKeys
from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.services.identity.bootstrap import FirstCredentials, Identity
from pilothouse.settings import PostgresSettings
from pilothouse.store.database import Database
from tests.support.servers import RunningServer, free_port, open_folder

START_SECONDS = 90.0
_OFF = {
    # All clients are one here.
    "PILOTHOUSE_RATES__PER_ADDRESS": "0",
    "PILOTHOUSE_RATES__PER_KEY": "0",
    "PILOTHOUSE_RATES__PER_USER": "0",
}


@dataclass
class Process:
    """One process of a part, with the port of its probes; an API also has one for requests."""

    name: str
    part: str
    environment: dict[str, str]
    log: Path
    port: int = 0
    probes: int = field(default_factory=free_port)
    running: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it; it dies with this process."""
        variables = {
            **self.environment,
            "PILOTHOUSE_PORT": str(self.port),
            "PILOTHOUSE_MONITORING__PORT": str(self.probes),
        }
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, "-m", "pilothouse", self.part, "--parent", str(os.getpid())],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process that runs, or has run."""
        assert self.running is not None
        return self.running

    def readiness(self) -> tuple[int, str]:
        """Return what it answers to ``/readyz``; 0 while it does not answer."""
        with suppress(httpx2.HTTPError), httpx2.Client(trust_env=False, timeout=6) as http:
            answer = http.get(f"http://127.0.0.1:{self.probes}/readyz")
            return answer.status_code, answer.text
        return 0, ""

    def wait_until_ready(self) -> None:
        """Return when it is ready; fail with its log if it ends before."""
        until = time.monotonic() + START_SECONDS
        while self.readiness()[0] != 200:
            assert self.process.poll() is None, f"{self.name} has ended:\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < until, f"{self.name} is not ready:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.1)

    def kill(self) -> None:
        """Let it die with its children, as a machine does that loses power."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end, and wait for that; if it does not, kill it."""
        self.process.terminate()
        try:
            self.process.wait(START_SECONDS)
        finally:
            self.kill()


class Fleet:
    """The processes, and the installation as a client of each API sees it."""

    def __init__(self, folder: Path, environment: dict[str, str], database_url: str, server: RunningServer) -> None:
        self.database_url = database_url
        self.processes: dict[str, Process] = {}
        self._folder = folder
        self._environment = environment
        self._server = server

    def start(self, part: str, name: str, *, environment: dict[str, str] | None = None) -> Process:
        """Start a process of that part, and return it; ``environment``: what is different from the others'."""
        process = Process(name, part, self._environment | (environment or {}), self._folder / f"{name}.log")
        process.port = free_port() if part == "api" else 0
        process.start()
        self.processes[name] = process
        return process

    def stop(self, name: str) -> None:
        """Stop a process for good."""
        self.processes.pop(name).stop()

    def of(self, part: str) -> list[Process]:
        """Return the processes of a part."""
        return [process for process in self.processes.values() if process.part == part]

    @property
    def apis(self) -> list[RunningServer]:
        """The APIs that there are now."""
        return [replace(self._server, url=f"http://127.0.0.1:{process.port}") for process in self.of("api")]

    def register(self, kubeconfig: str, *, name: str = "test") -> str:
        """Register the cluster, and return its id, which every API knows from now on."""
        answer = self.apis[0].send("POST", "/api/v1/clusters", json_body={"name": name, "kubeconfig": kubeconfig})
        assert answer.status_code == 201, answer.text
        self._server = replace(self._server, cluster_id=answer.json()["id"])
        return self._server.cluster_id

    def connect(self) -> psycopg.Connection:
        """Return a connection to the database."""
        return psycopg.connect(self.database_url, autocommit=True)


@contextmanager
def fleet(
    *, apis: int, workers: int, observers: int, environment: dict[str, str] | None = None, database_url: str = ""
) -> Iterator[Fleet]:
    """Yield a fleet whose processes are ready, with a database of its own unless one is given; at the end none runs."""
    with open_folder() as folder:
        data = folder / "data"
        postgres = None if database_url else EmbeddedPostgres(PostgresSettings(), data_dir=data)
        url = database_url or (postgres.start() if postgres else "")
        running: Fleet | None = None
        try:
            variables = {
                **{name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")},
                **_OFF,
                "PILOTHOUSE_DATA_DIR": str(data),
                "PILOTHOUSE_DATABASE_URL": url,
                "PILOTHOUSE_TLS__PORT": "0",
                "PILOTHOUSE_CLUSTER__ALLOW_LOOPBACK": "true",
                "PILOTHOUSE_WORKER__DRAIN_SECONDS": "20",
                "PILOTHOUSE_ENGINE__CHILDREN": "1",
                **(environment or {}),
            }
            data.mkdir(exist_ok=True)
            run_command("migrate", variables)
            running = Fleet(folder, variables, url, _first_server(data, url))
            for part, number in (("api", apis), ("worker", workers), ("observer", observers)):
                for count in range(number):
                    running.start(part, f"{part}-{count}")
            for process in running.processes.values():
                process.wait_until_ready()
            yield running
        finally:
            for process in running.processes.values() if running is not None else ():
                process.kill()
            if postgres is not None:
                postgres.stop()


def run_command(command: str, environment: dict[str, str]) -> str:
    """Run ``pilothouse COMMAND``; return what it says, or raise AssertionError with that if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _first_server(data: Path, url: str) -> RunningServer:
    with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop
        made = thread.submit(asyncio.run, _create_first(data, url)).result()
    return RunningServer(
        url="",
        pid=0,
        data_dir=data,
        access_key=made.access_key,
        secret_key=made.secret_key,
        project_id=made.project_id,
        cluster_id="",
        password=made.password,
    )


async def _create_first(data: Path, url: str) -> FirstCredentials:
    database = Database(url)
    try:
        keys = MasterKeys.load_or_create(data / "master.key")
        made = await Identity(database, keys).create_first(region="cn-north-4")
    finally:
        await database.close()
    assert made is not None
    return made

"""Pilothouse in pieces: a database, an API, an observer and workers, each a process that a test may end or stop.

Everything that goes to the cluster or to the database passes a fault proxy. Leases are short, so that a take-over costs
two seconds. A trigger in the database writes down every state that an operation was ever in: our witness for attempts.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString

import httpx2
import psycopg

from pilothouse.auth.sealing import MasterKeys
from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.services.identity.bootstrap import Identity
from pilothouse.settings import PostgresSettings
from pilothouse.store.database import Database
from pilothouse.store.migration import migrate
from tests.support.servers import RunningServer, children, free_port, open_folder
from tools.localcluster.cluster import RunningCluster
from tools.localcluster.faults.proxy import FaultProxy, fault_proxy

#: Alembic works on one database at a time in a process.
_MIGRATING = threading.Lock()
START_SECONDS = 90.0
CLUSTER, DATABASE = "kubernetes", "postgres"
#: The states in which an operation stays.
FINAL = frozenset({"succeeded", "failed", "cancelled"})

LEASE_SECONDS = 3.0
_TIMES = {
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "LEASE_MARGIN_SECONDS": "0.5",
    "FENCE_SECONDS": "2.0",
    "RENEW_SECONDS": "0.4",
    "POLL_SECONDS": "0.5",
    "DRAIN_SECONDS": "0.5",
    "OPERATIONS": "1",
    # A project may fill half of them: the release that is tried, and one that waits beside it.
    "WAITING": "4",
    # Two cores for all of this: leases also lapse because nobody was given the time to renew them.
    "ATTEMPTS": "20",
}
_HISTORY = """
CREATE TABLE operation_history (
    number bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    id text NOT NULL, attempt int NOT NULL, state text NOT NULL, worker text NOT NULL, crashes int NOT NULL
);
CREATE FUNCTION note_operation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO operation_history (id, attempt, state, worker, crashes)
    VALUES (NEW.id, NEW.attempt, NEW.state, NEW.worker, NEW.crashes);
    RETURN NULL;
END $$;
CREATE TRIGGER note_operation AFTER INSERT OR UPDATE OF attempt, state, worker, crashes ON operations
    FOR EACH ROW EXECUTE FUNCTION note_operation();
"""


@dataclass(frozen=True)
class Noted:
    """A state in which an operation was, as the database saw it."""

    at: datetime
    attempt: int
    state: str
    worker: str
    crashes: int

    @property
    def worker_pid(self) -> int:
        """The worker's process; 0 without one. Its name is host:pid:slot."""
        parts = self.worker.split(":")
        return int(parts[1]) if len(parts) > 1 else 0


class Member:
    """One of our processes; started again under the same name when it was ended."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        environment: dict[str, str],
        log: Path,
        is_ready: "Callable[[Member], bool]",
    ) -> None:
        self.name = name
        self.log = log
        self._argv = argv
        self._environment = environment
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None
        self._seen = 0
        self._ending = False

    @property
    def pid(self) -> int:
        """Of the process now."""
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        """Whether it runs, or is stopped by a signal."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it if it does not run; wait for one that was told to end."""
        if self._ending and self._process is not None:
            self._process.wait(START_SECONDS)
        self._ending = False
        if self.alive():
            return
        self._seen = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._argv, "--parent", str(os.getpid())],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when it works; it is started again when it ends before that."""
        until = time.monotonic() + START_SECONDS
        while not (self.alive() and self._is_ready(self)):
            assert time.monotonic() < until, f"{self.name} does not start:\n{self.said()[-3000:]}"
            self.start()
            time.sleep(0.05)

    def wait_for_death(self) -> None:
        """Return when the process has ended, of a signal that it was sent."""
        assert self._process is not None
        self._process.wait(START_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send it the signal, if it runs."""
        if self.alive():
            self._ending = self._ending or number == signal.SIGTERM
            os.kill(self.pid, number)

    def children(self) -> list[int]:
        """Its engine children."""
        with suppress(OSError):
            return children(self.pid)
        return []

    def end(self) -> None:
        """End it with its children."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def said(self) -> str:
        """Its log since its last start."""
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(self._seen)
            return file.read().decode(errors="replace")
        return ""


class Deployment:
    """The running pieces. Use it in the thread that made it: the pieces die with that thread."""

    def __init__(
        self, folder: Path, proxy: FaultProxy, postgres: EmbeddedPostgres, server: RunningServer, members: list[Member]
    ) -> None:
        self.folder = folder
        self.proxy = proxy
        self.postgres = postgres
        self.server = server
        self.members = members
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def member(self, name: str) -> Member:
        """Return the piece of that name."""
        return next(one for one in self.members if one.name == name)

    @property
    def workers(self) -> list[Member]:
        """All workers."""
        return [one for one in self.members if one.name.startswith("worker")]

    def holder(self, operation_id: str) -> Member | None:
        """Return the worker that holds the operation now, by the database."""
        noted = [one for one in self.history(operation_id) if one.state in {"running", "cancelling"}]
        pid = noted[-1].worker_pid if noted else 0
        return next((one for one in self.workers if one.alive() and one.pid == pid), None)

    def mend(self) -> None:
        """Every piece runs and every line is open."""
        self.proxy.clear("cut")
        for listener in (CLUSTER, DATABASE):
            self.proxy.flow(listener)
        if not self.postgres.is_alive():
            self.postgres.start()
        for member in self.members:
            member.signal(signal.SIGCONT)
            for child in member.children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGCONT)
            member.start()
        for member in self.members:
            member.wait_until_ready()

    def ask(self, statement: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, straight from the database, past the proxy."""
        for _ in range(2):
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self.postgres.url, autocommit=True)
                return self._connection.execute(statement, values).fetchall()
            except psycopg.OperationalError:  # the database was killed since the last one
                self.close()
                self._connection = None
        raise AssertionError("the database ends each connection at once")

    def close(self) -> None:
        """Asks the database no more."""
        if self._connection is not None:
            self._connection.close()

    def operations(self, release: str) -> list[tuple[str, str, int | None]]:
        """Id, state and revision of every operation on the release, the oldest first."""
        return self.ask(
            "SELECT id, state, revision FROM operations WHERE release_name = %s ORDER BY created_at", release
        )

    def history(self, operation_id: str) -> list[Noted]:
        """Every state that the operation was in."""
        rows = self.ask(
            "SELECT at, attempt, state, worker, crashes FROM operation_history WHERE id = %s ORDER BY number",
            operation_id,
        )
        return [Noted(*row) for row in rows]


@contextmanager
def deploy(
    kubernetes: RunningCluster,
    *,
    workers: int = 2,
    mutant: str = "",
    environment: dict[str, str] | None = None,
) -> Iterator[Deployment]:
    """All pieces run; at the end none does. ``mutant`` names what is left out of the workers: see ``mutants``."""
    with open_folder() as folder, fault_proxy() as proxy:
        data = folder / "data"
        postgres = EmbeddedPostgres(PostgresSettings(), data_dir=data)
        members: list[Member] = []
        direct = postgres.start()
        try:
            with _MIGRATING:
                migrate(Database(direct))
            with psycopg.connect(direct, autocommit=True) as connection:
                connection.execute(_HISTORY)
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            variables = {
                **{name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")},
                "PILOTHOUSE_DATA_DIR": str(data),
                "PILOTHOUSE_DATABASE_URL": proxy.postgres(direct, listener=DATABASE),
                "PILOTHOUSE_PORT": str(port),
                "PILOTHOUSE_TLS__PORT": "0",
                "PILOTHOUSE_CLUSTER__ALLOW_LOOPBACK": "true",
                "PILOTHOUSE_IDENTITY__SLOW_SIGNATURES_AFTER": "0",
                "PILOTHOUSE_ENGINE__CHILDREN": "1",
                "PILOTHOUSE_HOOKS__ON_UPDATE": "true",
                "PILOTHOUSE_HOOKS__ON_DELETE": "true",
                **{f"PILOTHOUSE_WORKER__{name}": value for name, value in _TIMES.items()},
                **(environment or {}),
            }
            ours = [sys.executable, "-m", "pilothouse"]
            worker = [sys.executable, "-m", "tests.crash.mutants", mutant] if mutant else ours
            members += [
                Member("api", [*ours, "api"], variables, folder / "api.log", _answers(url)),
                Member("observer", [*ours, "observer"], variables, folder / "observer.log", _says("observer_started")),
            ]
            members += [
                Member(
                    f"worker-{number}",
                    [*worker, "worker"],
                    variables,
                    folder / f"worker-{number}.log",
                    _says("worker_started", "engine_ready"),
                )
                for number in range(workers)
            ]
            server = asyncio.run(_first_server(data, direct, url))
            for member in members:
                member.start()
            members[0].wait_until_ready()
            answer = server.send(
                "POST",
                "/api/v1/clusters",
                json_body={
                    "name": "test",
                    "kubeconfig": proxy.kubernetes(kubernetes.kubeconfig.read_text(), listener=CLUSTER),
                },
            )
            assert answer.status_code == 201, answer.text
            server = RunningServer(**{**vars(server), "cluster_id": answer.json()["id"]})
            deployment = Deployment(folder, proxy, postgres, server, members)
            deployment.mend()
            with closing(deployment):
                yield deployment
        finally:
            for member in reversed(members):
                member.end()
            postgres.stop()


async def _first_server(data: Path, url: str, address: str) -> RunningServer:
    database = Database(url)
    try:
        keys = MasterKeys.load_or_create(data / "master.key")
        made = await Identity(database, keys).create_first(region="cn-north-4")
    finally:
        await database.close()
    assert made is not None
    return RunningServer(
        url=address,
        pid=0,
        data_dir=data,
        access_key=made.access_key,
        secret_key=made.secret_key,
        project_id=made.project_id,
        cluster_id="",
    )


def _says(*words: str) -> Callable[[Member], bool]:
    return lambda member: all(word in member.said() for word in words)


def _answers(url: str) -> Callable[[Member], bool]:
    def ask(_: Member) -> bool:
        with suppress(httpx2.HTTPError), httpx2.Client(trust_env=False, timeout=5) as http:
            return http.get(f"{url}/api/v1/health").is_success
        return False

    return ask

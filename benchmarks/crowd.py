"""Many projects and many clusters at one server: ``python -m benchmarks.crowd queue clusters``.

queue: 10,000 operations of ten projects wait, the last 600 accepted at 20/s, and are then worked off for a while.
clusters: the local one with 1,170 Secrets of Helm's more, registered fifty times, so that each has its whole index;
watched from nothing, then idle.
"""

import asyncio
import dataclasses
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psycopg
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, percentile
from benchmarks.http import Connections, connections
from benchmarks.place import Place, child_of, children_of, cpu_seconds, postmaster_of, pss, rss
from benchmarks.reads import release_secret, secret_writer, write_secrets
from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer, monitoring_ports, open_folder, run_server
from tests.support.tenants import add_tenant
from tools.localcluster.cluster import obtain

PROJECTS = 10
QUEUED = int(os.environ.get("CROWD_QUEUED", "10000"))
#: At the end of the queue, at a fixed rate.
MEASURED, RATE, READS_PER_SECOND = 600, 20.0, 10.0
SENDERS = 4
WORKED_OFF = 300
CLUSTERS = int(os.environ.get("CROWD_CLUSTERS", "50"))
RELEASES = 50
#: Written straight to the cluster, with ten revisions of each release: rows of every registration's index.
SECRETS, REVISIONS = int(os.environ.get("CROWD_SECRETS", "1170")), 10
IDLE_SECONDS = 40.0
SCRAPES = 20
LONGEST_SECONDS = 240.0
_WRITTEN = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


@dataclasses.dataclass(frozen=True)
class Tenant:
    """A project with a cluster and a chart of its own."""

    server: RunningServer
    chart: str

    @property
    def releases(self) -> str:
        return f"/cce/cam/v3/clusters/{self.server.cluster_id}/releases"


async def queue(place: Place, _monitoring: int) -> list[Figure]:
    tenants = [await asyncio.to_thread(_tenant, place, number) for number in range(PROJECTS)]
    accepted: list[float] = []
    waiting_reads: list[float] = []
    working_reads: list[float] = []
    async with place.namespace() as namespace, _pools(tenants) as pools:
        with place.worker_paused():
            await _fill(tenants, pools, namespace, QUEUED - MEASURED)
            reading = asyncio.create_task(_read(pools, waiting_reads))
            accepted = await _accept(tenants, pools, namespace)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        reading = asyncio.create_task(_read(pools, working_reads))
        shares = await _shares(place, tenants)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        with psycopg.connect(place.server.database_url, autocommit=True) as rows:
            rows.execute("UPDATE operations SET deadline_seconds = 0 WHERE state = 'queued'")
            await _until(
                lambda: rows.execute("SELECT count(*) FROM operations WHERE state = 'queued'").fetchone() == (0,)
            )
    tenth = sum(shares) / PROJECTS
    return [
        Figure(f"POST at {RATE:g}/s behind {QUEUED - MEASURED} queued: p50", (percentile(accepted, 0.50),)),
        Figure(f"POST at {RATE:g}/s behind {QUEUED - MEASURED} queued: p99", (percentile(accepted, 0.99),), target=60),
        Figure("GET at 10/s meanwhile: p99", (percentile(waiting_reads, 0.99),), target=100),
        Figure(
            f"GET at 10/s while the worker runs behind {QUEUED} queued: p99",
            (percentile(working_reads, 0.99),),
            target=100,
        ),
        Figure(
            f"most that a project's share of {sum(shares)} operations is off a tenth",
            (max(abs(share - tenth) for share in shares) / tenth,),
            unit="",
            target=0.1,
        ),
    ]


def _tenant(place: Place, number: int) -> Tenant:
    server = add_tenant(place.server)
    body = {"name": f"crowd-{number}", "kubeconfig": place.kubeconfig.read_text()}
    made = server.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    server = dataclasses.replace(server, cluster_id=made.json()["id"])
    uploaded = server.upload(config_map_chart("crowd"))
    assert uploaded.status_code == 201, uploaded.text
    return Tenant(server, uploaded.json()["id"])


class _pools:  # noqa: N801 - used as a function
    """Connections of each tenant, whose requests are signed with its own key."""

    def __init__(self, tenants: list[Tenant]) -> None:
        self._opened = [connections(tenant.server, warm=1) for tenant in tenants]

    async def __aenter__(self) -> list[Connections]:
        return [await one.__aenter__() for one in self._opened]

    async def __aexit__(self, *error: object) -> None:
        for one in self._opened:
            await one.__aexit__(None, None, None)


async def _post(tenant: Tenant, pool: Connections, namespace: str, name: str) -> None:
    body = {"chart_id": tenant.chart, "namespace": namespace, "name": name, "values": {"text": name}}
    answer = await pool.send("POST", tenant.releases, body, headers={"X-Pilothouse-Timeout": "3600"})
    assert answer.status == 201, answer.body


async def _fill(tenants: list[Tenant], pools: list[Connections], namespace: str, count: int) -> None:
    numbers = iter(range(count))

    async def send() -> None:
        for number in numbers:
            one = number % PROJECTS
            await _post(tenants[one], pools[one], namespace, f"p{one}-fill-{number}")

    await asyncio.gather(*(send() for _ in range(SENDERS)))


async def _accept(tenants: list[Tenant], pools: list[Connections], namespace: str) -> list[float]:
    """Return the seconds from each request's due time to its answer: a late start counts as waiting."""
    started = time.perf_counter()

    async def one(number: int) -> float:
        due = started + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        of = number % PROJECTS
        await _post(tenants[of], pools[of], namespace, f"p{of}-last-{number}")
        return time.perf_counter() - due

    return list(await asyncio.gather(*(one(number) for number in range(MEASURED))))


async def _read(pools: list[Connections], seconds: list[float]) -> None:
    """Read queued operations at fixed times."""
    started, number = time.perf_counter(), 0
    asking: set[asyncio.Task[None]] = set()

    async def one(due: float, of: int) -> None:
        answer = await pools[of].send("GET", "/api/v1/operations?limit=20&state=queued")
        assert answer.status == 200, answer.body
        seconds.append(time.perf_counter() - due)

    while True:
        due = started + number / READS_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asking.add(asyncio.create_task(one(due, number % PROJECTS)))
        asking = {task for task in asking if not task.done() or task.result()}
        number += 1


async def _shares(place: Place, tenants: list[Tenant]) -> list[int]:
    """Return how many operations of each project ended first, of so many."""
    with psycopg.connect(place.server.database_url, autocommit=True) as rows:

        def ended() -> list[tuple[str]]:
            return rows.execute(
                "SELECT project_id FROM operations WHERE state = 'succeeded' ORDER BY finished_at LIMIT %s",
                [WORKED_OFF],
            ).fetchall()

        # In a thread: the reads beside it, whose times are measured, have the same loop.
        async with asyncio.timeout(LONGEST_SECONDS):
            while len(found := await asyncio.to_thread(ended)) < WORKED_OFF:  # noqa: ASYNC110 - rows set no event
                await asyncio.sleep(0.1)
        counted = Counter(project for (project,) in found)
    return [counted[tenant.server.project_id] for tenant in tenants]


async def clusters(place: Place, monitoring: int) -> list[Figure]:
    document = yaml.safe_load(place.kubeconfig.read_text())
    chart = place.upload(config_map_chart("crowd"))
    parts = {name: child_of(place.server.pid, name) for name in ("api", "observer", "worker")}
    async with place.namespace() as namespace, connections(place.server) as http:
        for number in range(RELEASES):
            body = {"chart_id": chart, "namespace": namespace, "name": f"crowd-{number}", "values": {}}
            assert (await http.send("POST", place.releases, body)).status == 201
        async with secret_writer(place) as writer:
            await write_secrets(writer, _secrets(namespace))
        with psycopg.connect(place.server.database_url, autocommit=True) as rows:
            living = "SELECT count(*) FROM operations WHERE state IN ('queued', 'running')"
            await _until(lambda: rows.execute(living).fetchone() == (0,))
            with _stopped(parts["observer"]):
                for number in range(CLUSTERS - 1):
                    document["contexts"][0]["name"] = document["current-context"] = f"way-{number}"
                    made = {"name": f"way-{number}", "kubeconfig": yaml.safe_dump(document)}
                    answer = place.server.send("POST", "/api/v1/clusters", json_body=made)
                    assert answer.status_code == 201, answer.text
                used, known = _indexing(place, parts["observer"]), _rows(rows)
            began = time.monotonic()
            listed = "SELECT count(*) FROM cluster_watches WHERE listed_at IS NOT NULL"
            await _until(lambda: rows.execute(listed).fetchone() == (CLUSTERS,))
            indexed, revisions = time.monotonic() - began, _rows(rows)
            after_it = _indexing(place, parts["observer"])
            costs = [(late - early) * 1e6 / (revisions - known) for early, late in zip(used, after_it, strict=True)]
            (of_index,) = rows.execute("SELECT pg_total_relation_size('release_revisions')").fetchone() or (0,)
            written = rows.execute(_WRITTEN).fetchone() or (0,)
        await asyncio.sleep(10)
        everything = {pid: cpu_seconds([pid]) for pid in _all_processes(place)}
        before = {name: cpu_seconds([pid]) for name, pid in parts.items()}
        await asyncio.sleep(IDLE_SECONDS)
        with psycopg.connect(place.server.database_url, autocommit=True) as rows:
            transactions = ((rows.execute(_WRITTEN).fetchone() or (0,))[0] - written[0]) / (IDLE_SECONDS + 10)
            (sessions,) = rows.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL"
            ).fetchone() or (0,)
        idle = {name: (cpu_seconds([pid]) - before[name]) / IDLE_SECONDS * 100 for name, pid in parts.items()}
        # A process that ended meanwhile has used no more than nothing.
        idle["all"] = sum(max(0.0, cpu_seconds([pid]) - used) for pid, used in everything.items()) / IDLE_SECONDS * 100
        sizes, scrapes = await asyncio.to_thread(_scrape, monitoring)
        return [
            Figure(f"{CLUSTERS} clusters, {revisions} rows: indexed from nothing", (indexed,), unit="s", target=20),
            Figure("of it processor time of the observer, for a row", (costs[0],), unit="µs"),
            Figure("of it processor time of PostgreSQL, for a row", (costs[1],), unit="µs"),
            Figure("observer, RSS", (rss(parts["observer"]),), unit="MB", target=250),
            Figure("observer, PSS", (pss(parts["observer"]),), unit="MB"),
            Figure("idle: observer", (idle["observer"],), unit="% of a core", target=2),
            Figure("idle: worker", (idle["worker"],), unit="% of a core"),
            Figure("idle: API", (idle["api"],), unit="% of a core"),
            Figure("idle: everything, database included", (idle["all"],), unit="% of a core"),
            Figure("idle: transactions", (transactions,), unit="/s"),
            Figure("sessions of PostgreSQL", (sessions,), unit=""),
            Figure("index: table and indexes, a row", (of_index / max(1, revisions),), unit="B"),
            Figure("/metrics of the API", tuple(scrapes), target=20),
            Figure("/metrics of the API", tuple(sizes), unit="KB", target=200),
        ]


def _secrets(namespace: str) -> Iterator[dict[str, Any]]:
    """Yield Secrets as ``helm`` leaves them after as many upgrades of small releases."""
    for number in range(SECRETS):
        name, revision = f"written-{number // REVISIONS}", number % REVISIONS + 1
        status = "deployed" if revision == REVISIONS else "superseded"
        yield release_secret(namespace, name, revision, status, {"text": name}, [], "kind: ConfigMap\n" * 10)


def _rows(connection: psycopg.Connection[Any]) -> int:
    (count,) = connection.execute("SELECT count(*) FROM release_revisions").fetchone() or (0,)
    return int(count)


def _indexing(place: Place, observer: int) -> tuple[float, float]:
    """Return the processor seconds that the observer and all of PostgreSQL have used."""
    postgres = postmaster_of(place.server.data_dir)
    ended = cpu_seconds([postgres], ended=True)
    return cpu_seconds([observer]), cpu_seconds([postgres, *children_of(postgres)]) + ended


def _all_processes(place: Place) -> list[int]:
    postgres = postmaster_of(place.server.data_dir)
    ours = children_of(place.server.pid)
    return [
        place.server.pid,
        *ours,
        *(pid for one in ours for pid in children_of(one)),
        postgres,
        *children_of(postgres),
    ]


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _scrape(port: int) -> tuple[list[float], list[float]]:
    """Return kilobytes and milliseconds of scrapes; one in five seconds asks the database."""
    sizes, times = [], []
    with httpx2.Client(trust_env=False) as http:
        for _ in range(SCRAPES):
            began = time.perf_counter()
            answer = http.get(f"http://127.0.0.1:{port}/metrics", headers={"Connection": "close"})
            times.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200
            sizes.append(len(answer.content) / 1000)
            time.sleep(0.5)
    return sizes, times


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST_SECONDS):
        while not condition():  # noqa: ASYNC110 - rows set no event
            await asyncio.sleep(0.1)


BENCHMARKS: dict[str, Callable[[Place, int], Awaitable[list[Figure]]]] = {"queue": queue, "clusters": clusters}


async def _measure(name: str, ground: Place, monitoring: int) -> list[Figure]:
    return await BENCHMARKS[name](ground, monitoring)


def main(names: list[str]) -> None:
    table = Table("figure", "best", "median", "target", "met")
    cluster = obtain()
    for name in names or BENCHMARKS:
        monitoring = monitoring_ports()["api"]
        environment = {"PILOTHOUSE_MONITORING__PORT": str(monitoring)}
        with open_folder() as folder:
            kubeconfig = cluster.kubeconfig.read_text() if name == "clusters" else None
            with run_server(folder, kubeconfig=kubeconfig, environment=environment) as server:
                ground = Place(server, cluster.kubeconfig, cluster.helm, folder)
                for figure in asyncio.run(_measure(name, ground, monitoring)):
                    table.add_row(*figure.row())
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])

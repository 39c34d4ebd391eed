"""How long an operation stands still after kill -9 of its worker: until the next attempt has begun to act.

That is the moment at which the next attempt has looked at the cluster, ended the dead one's lock, and committed what it
is about to write; its engine child starts right after it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.figures import Figure
from benchmarks.place import Place, child_of
from tests.support.charts import build_chart, hook_job_template
from tests.support.servers import wait_for

TIMES = 20
_ASK_SECONDS = 0.01
#: Longer than what the supervisor takes for a failed start, which is tried again with a growing pause.
_LIVED_SECONDS = 5.0
#: Long enough to be killed in.
_SLOW = """\
    metadata: {annotations: {pilothouse.dev/simulate: slow, pilothouse.dev/simulate-delay: 60s}}
    spec:
      restartPolicy"""


async def recovery(place: Place) -> list[Figure]:
    hook = hook_job_template("pre-install").replace("    spec:\n      restartPolicy", _SLOW)
    chart = place.upload(build_chart("slow", "1.0.0", templates={"hook.yaml": hook}))
    async with place.namespace() as namespace:
        own = [await asyncio.to_thread(_own, place, chart, namespace, f"own-{one}") for one in range(TIMES)]
        other = [await asyncio.to_thread(_other, place, chart, namespace, f"other-{one}") for one in range(TIMES)]
    return [
        Figure("kill -9 of a worker to the next attempt, its supervisor saw it", tuple(own), unit="s", target=2.0),
        Figure("kill -9 of a worker to the next attempt, on another machine", tuple(other), unit="s", target=8.0),
    ]


def _own(place: Place, chart: str, namespace: str, name: str) -> float:
    """Return the worker of ``serve`` dies, not just started; its supervisor starts the next."""
    time.sleep(_LIVED_SECONDS)
    with psycopg.connect(place.server.database_url, autocommit=True) as database:
        _create(place, database, chart, namespace, name)
        seconds = _kill(child_of(place.server.pid, "worker"), database, namespace, name)
        _cancel(place, namespace, name)
    return seconds


def _other(place: Place, chart: str, namespace: str, name: str) -> float:
    """Return a worker without a supervisor dies, as one on another machine; the worker of ``serve`` takes over."""
    with psycopg.connect(place.server.database_url, autocommit=True) as database:
        with _worker(place) as victim:
            with place.worker_paused():
                _create(place, database, chart, namespace, name)
            seconds = _kill(victim, database, namespace, name)
        _cancel(place, namespace, name)
    return seconds


def _create(place: Place, database: "psycopg.Connection[tuple[int]]", chart: str, namespace: str, name: str) -> None:
    answer = place.server.create(chart_id=chart, namespace=namespace, name=name, version="1.0.0", values={})
    assert answer.status_code == 201, answer.text
    wait_for(lambda: _begun(database, namespace, name) == 1)


def _kill(victim: int, database: "psycopg.Connection[tuple[int]]", namespace: str, name: str) -> float:
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    while _begun(database, namespace, name) < 2:
        time.sleep(_ASK_SECONDS)
    return time.monotonic() - killed


def _cancel(place: Place, namespace: str, name: str) -> None:
    place.server.send("DELETE", place.release(namespace, name))
    wait_for(lambda: place.server.show(namespace, name).status_code == 404, seconds=60)


def _begun(database: "psycopg.Connection[tuple[int]]", namespace: str, name: str) -> int:
    """Return the last attempt that has begun to act; 0 before the first."""
    row = database.execute(
        "SELECT coalesce(last_writing_attempt, 0) FROM operations WHERE namespace = %s AND release_name = %s",
        [namespace, name],
    ).fetchone()
    return row[0] if row else 0


@contextmanager
def _worker(place: Place) -> Iterator[int]:
    """Yield the process of another worker on the same database, once it works."""
    log = place.folder / "worker.log"
    environment = {
        **os.environ,
        "PILOTHOUSE_DATABASE_URL": place.server.database_url,
        "PILOTHOUSE_DATA_DIR": str(place.server.data_dir),
        "PILOTHOUSE_CLUSTER__ALLOW_LOOPBACK": "true",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pilothouse", "worker", "--parent", str(os.getpid())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        wait_for(lambda: "worker_started" in log.read_text(), seconds=60)
        yield process.pid
    finally:
        process.kill()
        process.wait()

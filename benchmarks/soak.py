"""A soak: an hour of a steady mixed life, after which memory, files, connections and rows are what they were.

``make soak`` takes an hour and some minutes; ``SOAK_SECONDS`` changes that, ``SOAK_SAMPLES`` keeps the samples in a
file. The load warms up for a sixth of that time, rests, goes on, and rests again. Memory is compared between the first
ten minutes after the first rest and the last ten of the load; what is held at rest, between the two rests. The status
is 1 if something has grown or was left behind, or if the server did not answer something as it should.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx2
from rich.console import Console
from rich.table import Table

from benchmarks.place import Place
from benchmarks.samples import Sample, take_sample
from benchmarks.steady import Steady
from benchmarks.verdicts import FIRST_REST, LAST_REST, LOADED, judge
from tests.support.chart_sources import registry, repository
from tests.support.charts import build_chart, config_map_chart, config_map_template, web_chart
from tests.support.fleet_load import Balanced
from tests.support.servers import monitoring_ports, open_folder, run_server, wait_for
from tests.support.workloads import deployment_template, hook_template
from tools.localcluster.cluster import obtain

SECONDS = float(os.environ.get("SOAK_SECONDS", "3600"))
KEPT = os.environ.get("SOAK_SAMPLES", "")
WARMING = SECONDS / 6
#: Longer than anything is kept with the settings below, with the time until it is swept.
RESTING = max(SECONDS / 20, 150.0)
EVERY_SECONDS = min(SECONDS / 180, 20.0)
SETTINGS = {
    "PILOTHOUSE_WEBHOOKS__ALLOW_LOOPBACK": "true",
    "PILOTHOUSE_WEBHOOKS__PLAIN_HTTP": "true",
    "PILOTHOUSE_OBSERVER__DRIFT_REQUESTS_PER_SECOND": "5",
    "PILOTHOUSE_OBSERVER__DRIFT_SECONDS": "10",
    # What is kept for days in life is kept for minutes, so that it is flat within the run.
    "PILOTHOUSE_RETENTION__OPERATION_SECONDS": "120",
    "PILOTHOUSE_RETENTION__KEY_SECONDS": "120",
    "PILOTHOUSE_RETENTION__DELIVERY_SECONDS": "60",
    "PILOTHOUSE_RETENTION__SWEEP_SECONDS": "15",
    "PILOTHOUSE_WORKER__COLLECT_SECONDS": "15",
    "PILOTHOUSE_WORKER__UNUSED_ARCHIVE_SECONDS": "60",
    "PILOTHOUSE_PLANS__SECONDS": "60",
    "PILOTHOUSE_IDENTITY__SESSION_SECONDS": "90",
    "PILOTHOUSE_IDENTITY__SESSION_IDLE_SECONDS": "60",
    "PILOTHOUSE_ENGINE__IDLE_SECONDS": "30",
    "PILOTHOUSE_LOG_FORMAT": "json",
}


@dataclass
class Soak:
    """Load and rest in turns, with a look at everything each so often."""

    place: Place
    steady: Steady
    temporary: Path
    began: float = field(default_factory=time.monotonic)
    phase: str = "start"
    samples: list[Sample] = field(default_factory=list)
    #: Requests that clients had to repeat.
    failures: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        looking = asyncio.create_task(self._look_again_and_again())
        try:
            await self._work("warm-up", WARMING)
            await self._rest(FIRST_REST)
            await self._work(LOADED, SECONDS - WARMING)
            await self._rest(LAST_REST)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _work(self, phase: str, seconds: float) -> None:
        self.phase = phase
        stop = asyncio.Event()
        working = asyncio.create_task(self.steady.run(stop))
        await asyncio.wait([working], timeout=seconds)
        self.phase = f"after {phase}"
        stop.set()
        await working
        self.failures += self.steady.client.failures
        await self.steady.client.close()
        self.steady.client = client_of(self.place)

    async def _rest(self, phase: str) -> None:
        self.phase = phase
        await asyncio.sleep(RESTING)

    async def _look_again_and_again(self) -> None:
        while True:
            at = time.monotonic() - self.began
            with contextlib.suppress(OSError):
                sample = await asyncio.to_thread(
                    take_sample, self.place.server, at, self.phase, temporary=self.temporary
                )
                self.samples.append(sample)
            if KEPT:
                await asyncio.to_thread(self._keep, Path(KEPT))
            await asyncio.sleep(max(0.0, at + EVERY_SECONDS - (time.monotonic() - self.began)))

    def _keep(self, file: Path) -> None:
        told = {"done": self.steady.done, "problems": self.steady.problems, "failures": self.failures}
        file.write_text(json.dumps({"samples": [asdict(sample) for sample in self.samples], **told}))


def client_of(place: Place) -> Balanced:
    return Balanced(lambda: [place.server])


@contextlib.contextmanager
def soaked() -> Iterator[tuple[Place, dict[str, int], Path]]:
    """Yield a server with all its parts, with the ports that they are watched at and its folder of temporary files."""
    cluster, monitoring = obtain(), monitoring_ports()
    with open_folder() as folder:
        temporary = folder / "tmp"
        temporary.mkdir()
        temporary.chmod(0o1777)
        environment = SETTINGS | {"TMPDIR": str(temporary), "PILOTHOUSE_MONITORING__PORT": str(monitoring["api"])}
        with run_server(folder, kubeconfig=cluster.kubeconfig.read_text(), environment=environment) as server:
            urls = [f"http://127.0.0.1:{port}/readyz" for port in monitoring.values()]
            with httpx2.Client(trust_env=False) as http:
                wait_for(lambda: all(http.get(url).is_success for url in urls))
            yield Place(server, cluster.kubeconfig, cluster.helm, folder), monitoring, temporary


@contextlib.asynccontextmanager
async def steady_life(place: Place, monitoring: dict[str, int]) -> AsyncIterator[Steady]:
    """Yield what is to be done, with everything made that it needs."""
    server = place.server
    async with hooked(place), place.namespace() as namespace:
        with repository() as served, registry("distribution", place.folder) as pushed:
            await asyncio.to_thread(pushed.push, place.helm, config_map_chart("offered", "1.0.0"))
            http = {"name": "soak-http", "kind": "http", "url": served.url, "ca": served.ca, "sync_seconds": 60}
            served.files = {"index.yaml": b"apiVersion: v1\nentries: {}\n"}
            sources = {}
            for kind, body in (("http", http), ("oci", pushed.as_source("soak-oci", sync_seconds=60))):
                answer = server.send("POST", "/api/v1/sources", json_body=body)
                assert answer.status_code == 201, answer.text
                sources[kind] = str(answer.json()["id"])
            ids = {name: place.upload(archive) for name, archive in charts().items()}
            found = server.send("GET", "/api/v1/projects").json()
            project = next(one["name"] for one in found if one["id"] == server.project_id)
            steady = Steady(place, namespace, ids, project, served, pushed, sources, monitoring, client_of(place))
            await steady.ended("PUT", steady.own("stays"), {"chart": {"id": ids["web"]}})
            yield steady


def charts() -> dict[str, bytes]:
    """Return the charts that the lives need, by what becomes of them."""
    fails = {"config.yaml": config_map_template(), "hook.yaml": hook_template("post-install", fate="fail")}
    stuck = deployment_template(selector="{nowhere: 'yes'}", replicas=1)
    return {
        "small": config_map_chart("soak-small"),
        "web": web_chart("soak-web"),
        "failing": build_chart("soak-failing", templates=fails, values={"text": "x"}),
        "stuck": build_chart("soak-stuck", templates={"web.yaml": stuck}),
    }


@contextlib.asynccontextmanager
async def hooked(place: Place) -> AsyncIterator[None]:
    """Have two webhooks told: one takes everything, the other fails each twentieth time."""
    seen: Counter[str] = Counter()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            path = head.split(b" ", 2)[1].decode()
            seen[path] += 1
            status = b"500 Not Today" if path == "/ill" and seen[path] % 20 == 0 else b"204 No Content"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for path in ("well", "ill"):
        body = {"name": f"hook-{path}-{uuid.uuid4().hex[:4]}", "url": f"http://127.0.0.1:{port}/{path}"}
        answer = await asyncio.to_thread(place.server.send, "POST", "/api/v1/webhooks", json_body=body)
        assert answer.status_code == 201, answer.text
    async with server:
        yield
    assert seen["/well"], "the webhook was told nothing"


async def soak() -> Soak:
    with soaked() as (place, monitoring, temporary):
        async with steady_life(place, monitoring) as steady:
            run = Soak(place, steady, temporary)
            await run.run()
            return run


def main() -> None:
    console = Console()
    console.print(f"{WARMING:.0f} s of warming up, {SECONDS - WARMING:.0f} s of load, twice {RESTING:.0f} s of rest")
    run = asyncio.run(soak())
    rows = judge(run.samples)
    table = Table("what", "before", "after", "in an hour", "asked", "met")
    for row in rows:
        table.add_row(*row.cells())
    console.print(table)
    console.print(f"cores used under load, with PostgreSQL and the engine: {cores(run.samples):.2f}")
    console.print(f"done: {dict(run.steady.done)}")
    console.print(f"requests that were repeated: {dict(run.failures)}")
    for problem, times in run.steady.problems.items():
        console.print(f"{times} times: {problem}")
    if run.steady.problems or run.failures or not all(row.is_met for row in rows):
        sys.exit(1)


def cores(samples: list[Sample]) -> float:
    """Return the processor time of all processes of the server in a second of load."""
    first, *_, last = (sample for sample in samples if sample.phase == LOADED)
    return (last.processor - first.processor) / (last.at - first.at)


if __name__ == "__main__":
    main()

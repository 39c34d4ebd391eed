"""A soak: an hour of a steady mixed life, after which memory, files, connections and rows are what they were.

``make soak`` takes an hour; ``SOAK_SECONDS`` changes that, ``SOAK_SAMPLES`` keeps the raw samples in a file. The load
warms up, rests, goes on, and rests again. Memory under load is compared between the first ten minutes after the first
rest and the last ten; what is held at rest between the two rests.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx2
from rich.console import Console

from benchmarks.place import Place
from benchmarks.samples import Sample, take_sample
from benchmarks.steady import Steady, charts, hooked
from tests.support.chart_sources import registry, repository
from tests.support.charts import config_map_chart
from tests.support.fleet_load import Balanced
from tests.support.servers import monitoring_ports, open_folder, run_server, wait_for
from tools.localcluster.cluster import obtain

SECONDS = float(os.environ.get("SOAK_SECONDS", "3600"))
KEPT = os.environ.get("SOAK_SAMPLES", "")
WARMING, RESTING = 1 / 6, 1 / 20
LOOKS = 180
SETTINGS = {
    "PILOTHOUSE_WEBHOOKS__ALLOW_LOOPBACK": "true",
    "PILOTHOUSE_WEBHOOKS__PLAIN_HTTP": "true",
    "PILOTHOUSE_WEBHOOKS__GIVE_UP_SECONDS": "60",
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
    "PILOTHOUSE_IDENTITY__TOKEN_SECONDS": "60",
    "PILOTHOUSE_IDENTITY__SESSION_SECONDS": "60",
    "PILOTHOUSE_IDENTITY__SESSION_IDLE_SECONDS": "30",
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

    async def run(self) -> None:
        looking = asyncio.create_task(self._look_again_and_again())
        try:
            await self._rest("start", SECONDS / 120)
            await self._work("warm-up", SECONDS * WARMING)
            await self._rest("first rest", SECONDS * RESTING)
            await self._work("load", SECONDS * (1 - WARMING - 2 * RESTING - 1 / 120))
            await self._rest("last rest", SECONDS * RESTING)
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
        await self.steady.client.close()
        self.steady.client = client_of(self.place)

    async def _rest(self, phase: str, seconds: float) -> None:
        self.phase = phase
        await asyncio.sleep(seconds)

    async def _look_again_and_again(self) -> None:
        while True:
            at = time.monotonic() - self.began
            with contextlib.suppress(OSError):
                sample = await asyncio.to_thread(
                    take_sample, self.place.server, at, self.phase, temporary=self.temporary
                )
                self.samples.append(sample)
            if KEPT:
                await asyncio.to_thread(keep, Path(KEPT), self.samples, self.steady)
            await asyncio.sleep(max(0.0, at + SECONDS / LOOKS - (time.monotonic() - self.began)))


def keep(file: Path, samples: list[Sample], steady: Steady) -> None:
    """Keep what was seen so far."""
    kept = {
        "samples": [asdict(sample) for sample in samples],
        "done": steady.done,
        "problems": steady.problems,
        "failures": steady.client.failures,
    }
    file.write_text(json.dumps(kept))


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
            with httpx2.Client(trust_env=False) as http:
                for port in monitoring.values():
                    wait_for(lambda url=f"http://127.0.0.1:{port}/readyz": http.get(url).is_success)
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
            steady = Steady(
                place, namespace, ids, project, served, pushed, sources, monitoring, client_of(place)
            )
            await steady.ended("PUT", steady.own("stays"), {"chart": {"id": ids["web"]}})
            yield steady


async def soak() -> Soak:
    with soaked() as (place, monitoring, temporary):
        async with steady_life(place, monitoring) as steady:
            run = Soak(place, steady, temporary)
            await run.run()
            return run


def main() -> None:
    run = asyncio.run(soak())
    console = Console()
    console.print(dict(run.steady.done), dict(run.steady.problems), dict(run.steady.client.failures))


if __name__ == "__main__":
    main()

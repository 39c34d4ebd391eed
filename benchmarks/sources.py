"""Chart sources: an index of 15,000 entries read, read again and searched; installs of charts of a registry.

The index is as ``helm repo index`` writes it, with a kilobyte for each entry as in the largest public one. A first
install by a reference to a registry pulls the chart; that is compared with installs of uploaded ones, in turns. The
registry is that of the distribution project, with TLS and a password, on this machine.
"""

import asyncio
import contextlib
import re
import statistics
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, percentile
from benchmarks.http import Connections, connections
from benchmarks.place import Place, child_of, children_of
from tests.support.chart_sources import Repository, registry, repository
from tests.support.charts import config_map_chart

CHARTS, VERSIONS = 300, 50
ROUNDS = 3
ASKED = 100
INSTALLS = 10
_POLL_SECONDS = 0.1
_MIB = 1024 * 1024
_QUERIES = ("chart-123", "database", "nothing-has-this", "")


async def sources(place: Place) -> list[Figure]:
    async with connections(place.server, warm=1) as pool:
        return [*await _index(place, pool), *await _installs(place, pool)]


async def _index(place: Place, pool: Connections) -> list[Figure]:
    first, peaks, again, requests = [], [], [], []
    searched: dict[str, list[float]] = {}
    with repository() as serving:
        serving.files["index.yaml"] = _entries()
        for _ in range(ROUNDS):
            async with _peak(child_of(place.server.pid, "api")) as peak, _added(pool, "http", serving) as source:
                first.append(source["seconds"] * 1000)
                peaks.append(max(peak))
                before = len(serving.requests)
                answer = await pool.send("POST", f"/api/v1/sources/{source['id']}/sync")
                assert answer.status == 200, answer.body
                again.append(answer.seconds * 1000)
                requests.append(float(len(serving.requests) - before))
                for query in _QUERIES:
                    found = searched.setdefault(query, [])
                    for _ in range(ASKED // ROUNDS):
                        answer = await pool.send("GET", f"/api/v1/sources/{source['id']}/charts?q={query}")
                        assert answer.status == 200, answer.body
                        found.append(answer.seconds)
    size = len(serving.files["index.yaml"]) / _MIB
    return [
        Figure(f"first sync, {CHARTS * VERSIONS} entries, {size:.1f} MB", tuple(first), target=6000),
        Figure("the largest engine child of the API meanwhile, RSS", tuple(peaks), unit="MB", target=150),
        Figure("sync of the unchanged index", tuple(again)),
        Figure("its requests to the source", tuple(requests), unit="", target=1),
        *(
            Figure(f"search of {query!r}: p99", (percentile(found, 0.99),), target=50)
            for query, found in searched.items()
        ),
    ]


async def _installs(place: Place, pool: Connections) -> list[Figure]:
    """Return what a first install by a reference takes longer than one by id, and what a second one does."""
    by_id, first, later = [], [], []
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with registry("distribution", place.folder) as serving:
        body = serving.as_source(f"source-{uuid.uuid4().hex[:8]}", sync_seconds=0)
        async with _added(pool, "oci", body) as source, place.namespace() as namespace:

            async def install(chart: dict[str, str]) -> float:
                path = f"{place.server.cluster_id}/namespaces/{namespace}/releases/r-{uuid.uuid4().hex[:8]}"
                waiting = {"Prefer": "wait=60"}
                answer = await pool.send("PUT", f"/api/v1/clusters/{path}", {"chart": chart}, headers=waiting)
                assert answer.status == 200, answer.body
                assert answer.body["state"] == "succeeded", answer.body
                return answer.seconds * 1000

            for number in range(INSTALLS):
                uploaded = await asyncio.to_thread(place.upload, config_map_chart(name, f"1.0.{number}"))
                await asyncio.to_thread(serving.push, place.helm, config_map_chart(name, f"2.0.{number}"))
                reference = {"source": source["id"], "name": name, "version": f"2.0.{number}"}
                by_id.append(await install({"id": uploaded}))
                first.append(await install(reference))
                later.append(await install(reference))
    usual = statistics.median(by_id)
    return [
        Figure("install by id, to its end", tuple(by_id)),
        Figure("first install by a reference to a registry, to its end", tuple(first)),
        Figure("what that takes longer than the median by id", tuple(one - usual for one in first), target=150),
        Figure("what a later one takes longer", tuple(one - usual for one in later), target=20),
    ]


@asynccontextmanager
async def _added(pool: Connections, kind: str, serving: Repository | dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Add a source for the block, and yield it with the seconds that it took."""
    if isinstance(serving, Repository):
        name = f"source-{uuid.uuid4().hex[:8]}"
        serving = {"name": name, "kind": kind, "url": serving.url, "ca": serving.ca, "sync_seconds": 0}
    answer = await pool.send("POST", "/api/v1/sources", serving)
    assert answer.status == 201, answer.body
    try:
        yield {**answer.body, "seconds": answer.seconds}
    finally:
        await pool.send("DELETE", f"/api/v1/sources/{answer.body['id']}")


@asynccontextmanager
async def _peak(parent: int) -> AsyncIterator[list[float]]:
    """Note the resident megabytes of the process's largest child until the block ends."""
    noted = [0.0]

    async def note() -> None:
        while True:
            noted.extend(await asyncio.to_thread(_peaks, parent))
            await asyncio.sleep(_POLL_SECONDS)

    noting = asyncio.create_task(note())
    try:
        yield noted
    finally:
        noting.cancel()
        await asyncio.gather(noting, return_exceptions=True)


def _peaks(parent: int) -> list[float]:
    """Return the most megabytes that each child had resident."""
    found = []
    for pid in children_of(parent):
        with contextlib.suppress(OSError):  # it has ended
            noted = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            found.append(int(noted[1]) * 1024 / _MIB if noted else 0.0)
    return found


def _entries() -> bytes:
    """Return an index in block style, as ``helm repo index`` writes it."""
    lines = ["apiVersion: v1", "entries:"]
    words = "a database with replicas, backups and metrics, packaged for clusters of any size and kept up to date"
    for chart in range(CHARTS):
        lines.append(f"  chart-{chart:03}:")
        for version in reversed(range(VERSIONS)):
            digest = f"{chart * VERSIONS + version:064x}"
            lines += [
                "  - annotations:",
                "      category: Database",
                "      images: |",
                *(f"        - image: registry.test/team/image-{image}:{version}.1.0-debian-12" for image in range(2)),
                "      licenses: Apache-2.0",
                "    apiVersion: v2",
                f"    appVersion: {version}.1.0",
                '    created: "2026-01-02T03:04:05.678901234Z"',
                "    dependencies:",
                "    - name: common",
                "      repository: oci://registry.test/charts",
                "      tags:",
                "      - team-common",
                "      version: 2.x.x",
                f"    description: Chart {chart} is {words}.",
                f"    digest: {digest}",
                f"    home: https://charts.test/chart-{chart:03}",
                f"    icon: https://charts.test/icons/chart-{chart:03}.svg",
                "    keywords:",
                "    - database",
                f"    - word-{chart}",
                "    maintainers:",
                "    - name: The Team of All Charts, Inc.",
                "      url: https://charts.test/team",
                f"    name: chart-{chart:03}",
                "    sources:",
                f"    - https://charts.test/sources/chart-{chart:03}",
                "    urls:",
                f"    - https://charts.test/archives/chart-{chart:03}-1.{version}.0.tgz",
                f"    version: 1.{version}.0",
            ]
    lines.append('generated: "2026-01-02T03:04:05.678901234Z"')
    return "\n".join(lines).encode() + b"\n"

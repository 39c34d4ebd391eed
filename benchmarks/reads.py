"""Reads with many releases: list, show and history from the index, beside ``helm list -A`` on the same cluster.

Releases are written straight as Secrets, as Helm writes them: 1,000 with 10 revisions each, then 9,000 more with one
revision. Each holds what a middling public chart leaves there: values of 4 KiB, 20 templates of 3 KiB, a manifest of
25 KiB. ``PILOTHOUSE_BENCH_SCALE`` (1) makes all of it fewer.
"""

import asyncio
import base64
import gzip
import json
import os
import random
import subprocess
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.figures import Figure, percentile
from benchmarks.http import connections
from benchmarks.place import Place, child_of, rss
from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.kubernetes.transport import Transport
from pilothouse.settings import ClusterSettings
from tests.support.charts import config_map_chart

SCALE = float(os.environ.get("PILOTHOUSE_BENCH_SCALE", "1"))
FEW, RELEASES, MANY = (max(4, int(number * SCALE)) for number in (100, 1000, 10_000))
REVISIONS = 10
VALUES_BYTES = 4096
TEMPLATES, TEMPLATE_BYTES, MANIFEST_BYTES = 20, 3072, 25 * 1024
NAMESPACES = 4
WRITERS = 16
SHOWS = 300
LISTS = 10
LISTS_AT_ONCE = 32


async def reads(place: Place) -> list[Figure]:
    async with _namespaces(place) as namespaces, secret_writer(place) as write:
        await write_secrets(write, _releases(namespaces, range(FEW), revisions=1))
        await _until_listed(place, FEW)
        few = await _shows(place, namespaces, FEW)
        await write_secrets(write, _releases(namespaces, range(RELEASES), revisions=REVISIONS, first=2))
        await write_secrets(write, _releases(namespaces, range(FEW, RELEASES), revisions=1))
        await _until_listed(place, RELEASES)
        built, observer = await _build(place)
        lists, first_bytes = await _lists(place)
        at_once, growth = await _lists_at_once(place)
        shows = await _shows(place, namespaces, RELEASES)
        helm = await asyncio.to_thread(_helm_list, place)
        visible = await _visible(place, namespaces[0])
        await write_secrets(write, _releases(namespaces, range(RELEASES, MANY), revisions=1))
        await _until_listed(place, MANY)
        many = await _shows(place, namespaces, MANY)
    one = percentile(lists, 0.5)
    return [
        Figure(f"index of {RELEASES * REVISIONS} Secrets, built from nothing", (built * 1000,), target=60_000),
        Figure("observer's memory after it", (observer,), unit="MB", target=300),
        Figure(f"list of {RELEASES} releases", tuple(seconds * 1000 for seconds in lists), target=250),
        Figure("its first byte", tuple(seconds * 1000 for seconds in first_bytes), target=50),
        Figure("helm list -A", (helm * 1000,)),
        Figure("list / helm list -A", (one / (helm * 1000),), unit="", target=0.01),
        Figure(f"{LISTS_AT_ONCE} lists at once", (at_once * 1000,), target=4000),
        Figure("API's memory: growth by them", (growth,), unit="MB"),
        Figure(f"show, {FEW} releases: p50", (percentile(few, 0.5),), target=5),
        Figure(f"show, {RELEASES} releases with {REVISIONS} revisions: p50", (percentile(shows, 0.5),), target=5),
        Figure(f"show, {MANY} releases: p50", (percentile(many, 0.5),), target=percentile(few, 0.5) + 2),
        Figure("what helm did, until it is shown", tuple(seconds * 1000 for seconds in visible), target=1000),
    ]


def _releases(
    namespaces: list[str], numbers: Iterable[int], *, revisions: int, first: int = 1
) -> Iterable[dict[str, Any]]:
    """Yield the Secrets of those releases, as ``helm`` leaves them after as many upgrades."""
    chance = random.Random(7)
    words = [chance.randbytes(4).hex() for _ in range(60)]
    templates = [
        {"name": f"templates/t{number}.yaml", "data": base64.b64encode(_text(words, chance, TEMPLATE_BYTES)).decode()}
        for number in range(TEMPLATES)
    ]
    manifest = _text(words, chance, MANIFEST_BYTES).decode()
    values = {f"key{number}": chance.randbytes(24).hex() for number in range(VALUES_BYTES // 64)}
    for number in numbers:
        for revision in range(first, revisions + 1):
            status = "deployed" if revision == revisions else "superseded"
            yield release_secret(
                namespaces[number % NAMESPACES], f"r{number}", revision, status, values, templates, manifest
            )


def _text(words: list[str], chance: random.Random, size: int) -> bytes:
    """Lines that pack about as well as YAML does."""
    lines = (f"{'  ' * chance.randrange(5)}{chance.choice(words)}: {chance.choice(words)}" for _ in range(size // 16))
    return "\n".join(lines).encode()[:size]


def release_secret(  # noqa: PLR0917  # what a release is made of
    namespace: str,
    name: str,
    revision: int,
    status: str,
    values: dict[str, str],
    templates: list[dict[str, str]],
    manifest: str,
) -> dict[str, Any]:
    when = "2026-01-02T03:04:05.000000006Z"
    release = {
        "name": name,
        "info": {"first_deployed": when, "last_deployed": when, "description": "Install complete", "status": status},
        "chart": {
            "metadata": {"name": "bench", "version": "1.0.0", "apiVersion": "v2"},
            "values": values,
            "templates": templates,
        },
        "config": {"replicas": revision},
        "manifest": manifest,
        "version": revision,
        "namespace": namespace,
    }
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode(), 1)))
    labels = {"owner": "helm", "name": name, "status": status, "version": str(revision)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "helm.sh/release.v1",
        "metadata": {"namespace": namespace, "name": f"sh.helm.release.v1.{name}.v{revision}", "labels": labels},
        "data": {"release": packed.decode()},
    }


@asynccontextmanager
async def _namespaces(place: Place) -> AsyncIterator[list[str]]:
    async with place.namespace() as a, place.namespace() as b, place.namespace() as c, place.namespace() as d:
        yield [a, b, c, d]


@asynccontextmanager
async def secret_writer(place: Place) -> AsyncIterator[Transport]:
    text = sanitise(place.kubeconfig.read_text(), addresses=Addresses(allow_loopback=True)).text
    kubernetes = Transport(text, ClusterSettings(allow_loopback=True, answer_seconds=30))
    yield kubernetes
    await kubernetes.close()


async def write_secrets(kubernetes: Transport, secrets: Iterable[dict[str, Any]]) -> None:
    left = iter(secrets)

    async def write() -> None:
        for secret in left:
            path = f"/api/v1/namespaces/{secret['metadata']['namespace']}/secrets"
            made = await kubernetes.ask("POST", path, body=secret, largest=1 << 21)
            assert made.ok, made.message

    await asyncio.gather(*(write() for _ in range(WRITERS)))


async def _until_listed(place: Place, number: int) -> None:
    until = time.monotonic() + 120
    async with connections(place.server, warm=1) as http:
        while len(answer := (await http.send("GET", place.releases)).body) < number:
            assert time.monotonic() < until, len(answer)
            await asyncio.sleep(0.5)
    await asyncio.sleep(1)


async def _build(place: Place) -> tuple[float, float]:
    """Seconds until the same cluster, registered once more, is listed, and the observer's memory then."""
    started = time.monotonic()
    body = {"name": "bench-again", "kubeconfig": place.kubeconfig.read_text()}
    made = await asyncio.to_thread(place.server.send, "POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    cluster_id = made.json()["id"]
    await asyncio.to_thread(place.server.wait_until_listed, cluster_id, seconds=300)
    seconds = time.monotonic() - started
    memory = rss(child_of(place.server.pid, "observer"))
    await asyncio.to_thread(place.server.send, "DELETE", f"/api/v1/clusters/{cluster_id}")
    return seconds, memory


async def _lists(place: Place) -> tuple[list[float], list[float]]:
    async with connections(place.server, warm=1) as http:
        answers = [await http.send("GET", place.releases) for _ in range(LISTS)]
    assert all(len(answer.body) >= RELEASES for answer in answers)
    return [answer.seconds for answer in answers], [answer.first_byte for answer in answers]


async def _lists_at_once(place: Place) -> tuple[float, float]:
    api = child_of(place.server.pid, "api")
    async with connections(place.server, warm=LISTS_AT_ONCE) as many:
        before = rss(api)
        started = time.perf_counter()
        answers = await asyncio.gather(*(many.send("GET", place.releases) for _ in range(LISTS_AT_ONCE)))
        seconds = time.perf_counter() - started
    assert all(answer.status == 200 for answer in answers)
    return seconds, rss(api) - before


async def _shows(place: Place, namespaces: list[str], number: int) -> list[float]:
    chance = random.Random(11)
    seconds = []
    async with connections(place.server, warm=1) as http:
        for _ in range(SHOWS):
            one = chance.randrange(number)
            answer = await http.send("GET", place.release(namespaces[one % NAMESPACES], f"r{one}"))
            assert answer.status == 200, answer.body
            seconds.append(answer.seconds)
    return seconds


def _helm_list(place: Place) -> float:
    started = time.perf_counter()
    subprocess.run(
        [place.helm, "list", "-A", "--max", "0", "-o", "json", "--kubeconfig", place.kubeconfig],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started


async def _visible(place: Place, namespace: str) -> list[float]:
    """Seconds from the end of ``helm`` to the first answer that has what it did."""
    chart = place.folder / "bench-seen.tgz"
    chart.write_bytes(config_map_chart("bench-seen"))
    seconds = []
    async with connections(place.server, warm=1) as http:
        for number in range(5):
            name = f"seen-{number}"
            await asyncio.to_thread(place.helm_install, name, chart, namespace=namespace, options=[])
            started = time.perf_counter()
            while True:
                answer = await http.send("GET", place.release(namespace, name))
                if answer.status == 200 and answer.body["status"] == "DEPLOYED":
                    break
                assert time.perf_counter() - started < 30
                await asyncio.sleep(0.01)
            seconds.append(time.perf_counter() - started)
    return seconds

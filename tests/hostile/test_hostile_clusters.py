"""What one request may cost when the cluster that it reads is hostile: in memory of the API, in time, to others."""

import asyncio
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from pilothouse.services.releases import drift
from tests.support.costs import MIB, MOST_GROWTH, MOST_WAIT, watching
from tests.support.hostile_clusters import (
    Attack,
    HostileCluster,
    answer,
    config_maps,
    release_secret,
)
from tests.support.servers import RunningServer, open_folder, part, run_server, wait_for

#: A request's reads take 5 s in one look; what a busy machine adds is not what is tested.
MOST_SECONDS = 20
#: A look for drift may take longer by itself.
MOST_DIFF_SECONDS = drift.SECONDS + 15
MOST_ROWS = 1500
LIMITS = {"PILOTHOUSE_OBSERVER__ROWS_PER_CLUSTER": str(MOST_ROWS), "PILOTHOUSE_LOG_FORMAT": "json"}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=LIMITS) as running:
        yield running


@pytest.fixture(autouse=True)
def no_traceback(server: RunningServer) -> Iterator[None]:
    """Whatever a cluster says, the log has no traceback; one of an earlier test is not blamed on this one."""
    log = server.data_dir.parent / "serve.log"
    before = len(log.read_bytes())
    yield
    told = log.read_bytes()[before:].decode()
    assert "Traceback" not in told, told[max(0, told.index("Traceback") - 1000) :][:4000]


@pytest.fixture
def cluster_id(server: RunningServer, cluster: HostileCluster) -> Iterator[str]:
    body = {"name": f"hostile-{uuid.uuid4().hex[:8]}", "kubeconfig": cluster.kubeconfig}
    made = server.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    yield made.json()["id"]
    removed = server.send("DELETE", f"/api/v1/clusters/{made.json()['id']}")
    assert removed.status_code == 204, f"{removed.text} {(server.data_dir.parent / 'serve.log').read_text()[-6000:]}"


def show_resources(server: RunningServer, cluster_id: str, name: str, *, timeout: float = 60) -> httpx2.Response:
    path = f"/cce/cam/v3/clusters/{cluster_id}/namespace/shop/releases/{name}?show_resources=true"
    return server.send("GET", path, timeout=timeout)


def padded(target: str, size: int) -> bytes:
    name = target.partition("?")[0].rpartition("/")[2]
    body = {"kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": "y" * size}}
    return json.dumps(body).encode()


def heavy_objects(_: HostileCluster) -> Attack:
    async def attack(target: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, padded(target, int(1.9 * MIB)))

    return attack


def many_values(_: HostileCluster) -> Attack:
    async def attack(_: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, b'{"kind":"ConfigMap","data":[' + b",".join([b"[]"] * 600_000) + b"]}")

    return attack


def nested_deeply(_: HostileCluster) -> Attack:
    async def attack(_: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, b'{"kind":"ConfigMap","data":' + b"[" * 900_000 + b"]" * 900_000 + b"}")

    return attack


def endless(piece: bytes) -> Callable[[HostileCluster], Attack]:
    def make(cluster: HostileCluster) -> Attack:
        async def attack(_: str, writer: asyncio.StreamWriter) -> None:
            await cluster.flood(writer, piece)

        return attack

    return make


def endless_headers(cluster: HostileCluster) -> Attack:
    async def attack(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Y: zzzzzzzzzzzzzzzzzzzzzzzz\r\n" * 2000)
            await writer.drain()
            await asyncio.sleep(0)
            cluster.sent += 1

    return attack


def endless_early_answers(cluster: HostileCluster) -> Attack:
    async def attack(_: str, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 500)
            await writer.drain()
            await asyncio.sleep(0)
            cluster.sent += 1

    return attack


ATTACKS = {
    "heavy objects": heavy_objects,
    "many values": many_values,
    "nested deeply": nested_deeply,
    "endless body": endless(b'"' + b"x" * (MIB // 4)),
    "endless spaces": endless(b" " * (MIB // 4)),
    "endless headers": endless_headers,
    "endless early answers": endless_early_answers,
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("where", ["objects", "kinds"])
def test_live_resources_cost_the_api_at_most_64_mib(
    where: str, name: str, server: RunningServer, cluster: HostileCluster, cluster_id: str
):
    group = (lambda index: f"g{index}.example.test/v1") if where == "kinds" else (lambda _: "v1")
    cluster.secrets = [release_secret("web", manifest=config_maps(400, group=group))]
    assert wait_for(lambda: show_resources(server, cluster_id, "web").status_code == 200)
    cluster.attacks["/apis/g" if where == "kinds" else "/api/v1/namespaces/shop/configmaps/"] = ATTACKS[name](cluster)
    with watching(server) as seen, ThreadPoolExecutor(3) as callers:
        started = time.monotonic()
        answers = list(callers.map(lambda _: show_resources(server, cluster_id, "web"), range(3)))
        assert time.monotonic() - started < MOST_SECONDS
    assert {one.status_code for one in answers} <= {200, 429, 500}
    assert seen.growth < MOST_GROWTH
    assert seen.slowest < MOST_WAIT


def workloads(number: int) -> str:
    """The manifest of Deployments whose pods are each listed with a selector of their own."""
    return "---\n".join(
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: d{index}\n"
        f"spec:\n  selector:\n    matchLabels:\n      app: a{index}\n"
        for index in range(number)
    )


def endless_pages(_: HostileCluster) -> Attack:
    async def attack(_: str, writer: asyncio.StreamWriter) -> None:
        owner = {"uid": "u-1", "controller": True}
        pods = [{"metadata": {"uid": uuid.uuid4().hex, "ownerReferences": [owner]}} for _ in range(100)]
        await answer(writer, {"kind": "PodList", "metadata": {"continue": "more"}, "items": pods})

    return attack


def chain_of_owners(_: HostileCluster) -> Attack:
    async def attack(_: str, writer: asyncio.StreamWriter) -> None:
        pods = [{"metadata": {"uid": f"u-{i + 2}", "ownerReferences": [{"uid": f"u-{i + 1}"}]}} for i in range(1000)]
        pods.append({"metadata": {"uid": "u-1", "ownerReferences": [{"uid": "u-1000"}]}})
        await answer(writer, {"kind": "PodList", "metadata": {}, "items": pods})

    return attack


@pytest.mark.parametrize("name", ["many values", "endless body", "endless pages", "chain of owners"])
def test_a_live_tree_costs_the_api_at_most_64_mib(
    name: str, server: RunningServer, cluster: HostileCluster, cluster_id: str
):
    attacks = {**ATTACKS, "endless pages": endless_pages, "chain of owners": chain_of_owners}
    cluster.secrets = [release_secret("web", manifest=workloads(100))]
    assert wait_for(lambda: show_resources(server, cluster_id, "web").status_code == 200)

    async def say_deployment(_: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, {"kind": "Deployment", "metadata": {"uid": "u-1"}})

    async def say_kinds(_: str, writer: asyncio.StreamWriter) -> None:
        kinds = [{"name": "deployments", "kind": "Deployment", "namespaced": True}]
        await answer(writer, {"kind": "APIResourceList", "resources": kinds})

    cluster.attacks["/apis/apps/v1/namespaces/shop/deployments/"] = say_deployment
    cluster.attacks["/apis/apps/v1"] = say_kinds
    cluster.attacks["/api/v1/namespaces/shop/pods"] = attacks[name](cluster)
    path = f"/api/v1/clusters/{cluster_id}/namespaces/shop/releases/web/resources"
    with watching(server) as seen, ThreadPoolExecutor(3) as callers:
        started = time.monotonic()
        answers = list(callers.map(lambda _: server.send("GET", path, timeout=60), range(3)))
        assert time.monotonic() - started < MOST_SECONDS
    assert {one.status_code for one in answers} <= {200, 429, 500}
    assert any(one.status_code == 200 for one in answers), answers[0].text[:500]
    assert seen.growth < MOST_GROWTH
    assert seen.slowest < MOST_WAIT


@pytest.mark.parametrize("name", ["heavy objects", "many values", "nested deeply"])
def test_a_live_diff_costs_the_api_at_most_64_mib(
    name: str, server: RunningServer, cluster: HostileCluster, cluster_id: str
):
    cluster.secrets = [release_secret("web", manifest=config_maps(60))]
    assert wait_for(lambda: show_resources(server, cluster_id, "web").status_code == 200)
    cluster.attacks["/api/v1/namespaces/shop/configmaps/"] = ATTACKS[name](cluster)
    path = f"/api/v1/clusters/{cluster_id}/namespaces/shop/releases/web/diff?to=live"
    with watching(server) as seen, ThreadPoolExecutor(3) as callers:
        started = time.monotonic()
        answers = list(callers.map(lambda _: server.send("GET", path, timeout=60), range(3)))
        assert time.monotonic() - started < MOST_DIFF_SECONDS
    assert {one.status_code for one in answers} <= {200, 429, 500}
    assert any(one.status_code == 200 for one in answers), answers[0].text[:500]
    assert seen.growth < MOST_GROWTH
    assert seen.slowest < MOST_WAIT


def test_a_list_before_the_first_index_costs_what_one_request_may(
    server: RunningServer, cluster: HostileCluster, cluster_id: str
):
    served = 0

    async def pages(target: str, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        if "watch=true" in target:
            await asyncio.sleep(3600)
        items = []
        for _ in range(5):
            served += 1
            secret = release_secret(f"r{served}")
            secret["data"]["release"] += "A" * 400_000
            items.append(secret)
        metadata = {"resourceVersion": "100", "continue": str(served)}
        await answer(writer, {"kind": "SecretList", "metadata": metadata, "items": items})

    cluster.attacks["/api/v1/secrets"] = pages
    with watching(server) as seen:
        started = time.monotonic()
        told = server.send("GET", f"/cce/cam/v3/clusters/{cluster_id}/releases")
        assert time.monotonic() - started < MOST_SECONDS
    assert told.status_code == 500, told.text[:200]
    assert "more than 48 MiB in one request" in told.text or "did not answer" in told.text
    assert seen.growth < MOST_GROWTH
    assert seen.slowest < MOST_WAIT


@pytest.mark.parametrize(
    "path",
    [
        "/cce/cam/v3/clusters/{}/namespace/shop/releases/web?show_resources=true",
        "/api/v1/clusters/{}/namespaces/shop/releases/web/resources",
        "/api/v1/clusters/{}/namespaces/shop/releases/web/diff?to=live",
    ],
)
def test_the_cluster_is_read_no_further_when_the_caller_is_gone(
    path: str, server: RunningServer, cluster: HostileCluster, cluster_id: str
):
    cluster.secrets = [release_secret("web", manifest=config_maps(400))]
    assert wait_for(lambda: show_resources(server, cluster_id, "web").status_code == 200)

    async def dripping(target: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await answer(writer, padded(target, 10))

    cluster.attacks["/api/v1/namespaces/shop/configmaps/"] = dripping
    asked = len(cluster.requests)
    with pytest.raises(httpx2.ReadTimeout):
        server.send("GET", path.format(cluster_id), timeout=1)
    assert len(cluster.requests) > asked
    time.sleep(0.3)  # what was under way
    after = [one for one in cluster.requests if "/configmaps/" in one]
    time.sleep(1.5)
    assert [one for one in cluster.requests if "/configmaps/" in one] == after
    assert len(after) < 800


def test_a_kubernetes_that_says_nonsense_costs_an_error_and_no_traceback(
    server: RunningServer, cluster: HostileCluster, cluster_id: str
):
    digits = "9" * 1_000_000
    secret = release_secret("web")
    secret["metadata"]["labels"]["version"] = digits
    cluster.secrets = [secret]
    assert show_resources(server, cluster_id, "web").status_code in {200, 404}
    odd: list[Any] = [[], 7, "x", None, {"items": 7, "metadata": []}, {"items": [7, None, []]}]
    for nonsense in odd:

        async def say(_: str, writer: asyncio.StreamWriter, nonsense: object = nonsense) -> None:
            await answer(writer, nonsense)

        cluster.attacks["/api"] = say
        for path in ("releases", "namespace/shop/releases/web?show_resources=true"):
            status = server.send("GET", f"/cce/cam/v3/clusters/{cluster_id}/{path}").status_code
            assert status in {200, 404, 500}


def rows(server: RunningServer, cluster_id: str) -> int:
    with psycopg.connect(server.database_url) as connection:
        found = connection.execute("SELECT count(*) FROM release_revisions WHERE cluster_id = %s", [cluster_id])
        return int((found.fetchone() or (0,))[0])


def lines(server: RunningServer, cluster_id: str) -> list[str]:
    """Return what the log says of the cluster above the level of debug."""
    told = (server.data_dir.parent / "serve.log").read_text().splitlines()
    return [line for line in told if cluster_id in line and not ('"debug"' in line or "request_served" in line)]


def test_a_million_releases_are_indexed_up_to_the_limit_and_said(
    server: RunningServer, cluster: HostileCluster, cluster_id: str
):
    server.wait_until_listed(cluster_id)
    page = [release_secret(f"r{index:06}") for index in range(100)]
    asked = 0

    async def pages(target: str, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if "watch=true" in target:
            gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
            await answer(writer, gone)
            return
        for index, secret in enumerate(page):
            name = f"r{asked * 100 + index:06}"
            secret["metadata"]["name"] = f"sh.helm.release.v1.{name}.v1"
        metadata = {"resourceVersion": "200", "continue": str(asked)}
        await answer(writer, {"kind": "SecretList", "metadata": metadata, "items": page})

    cluster.attacks["/api/v1/secrets?"] = pages
    with watching(server, "observer") as seen:
        wait_for(lambda: server.index(cluster_id)["truncated"], seconds=60)
        time.sleep(3)
    assert rows(server, cluster_id) <= MOST_ROWS
    assert seen.growth < MOST_GROWTH
    assert len(lines(server, cluster_id)) < 20
    cluster.attacks.clear()
    cluster.secrets = [release_secret("kept"), release_secret("beyond")]
    shown = server.send("GET", f"/cce/cam/v3/clusters/{cluster_id}/namespace/shop/releases/beyond")
    assert shown.json()["name"] == "beyond", shown.text


def added(index: int, size: int) -> bytes:
    secret = release_secret(f"w{index}", version=1000 + index)
    secret["data"]["release"] += "A" * size
    return json.dumps({"type": "ADDED", "object": secret}).encode() + b"\n"


def bookmark(index: int, _: int) -> bytes:
    said = {"type": "BOOKMARK", "object": {"kind": "Secret", "metadata": {"resourceVersion": str(1000 + index)}}}
    return json.dumps(said).encode() + b"\n"


def unreadable(index: int, _: int) -> bytes:
    return f"{{{index}".encode() + b"\n"


def deleted(index: int, _: int) -> bytes:
    secret = release_secret(f"d{index}", version=1000 + index)
    return json.dumps({"type": "DELETED", "object": secret}).encode() + b"\n"


@pytest.mark.parametrize(
    ("event", "size"),
    [(added, 10), (added, 3 * MIB), (bookmark, 0), (unreadable, 0), (deleted, 0)],
    ids=["small", "large", "bookmarks", "unreadable", "deletions"],
)
def test_a_watch_that_never_stops_sending_costs_the_observer_little(
    event: Callable[[int, int], bytes], size: int, server: RunningServer, cluster: HostileCluster, cluster_id: str
):
    server.wait_until_listed(cluster_id)
    index = 0

    async def watch(target: str, writer: asyncio.StreamWriter) -> None:
        nonlocal index
        if "watch=true" not in target:
            metadata = {"resourceVersion": str(1000 + index)}
            await answer(writer, {"kind": "SecretList", "metadata": metadata, "items": []})
            return
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            piece = b"".join(event(index + one, size) for one in range(200 if size < MIB else 1))
            index += 200
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)  # a reader that is faster never makes this one wait
            cluster.sent += len(piece)

    cluster.attacks["/api/v1/secrets?"] = watch
    with psycopg.connect(server.database_url) as connection:  # the watch under way is one that says nothing
        connection.execute("UPDATE cluster_watches SET resource_version = 0 WHERE cluster_id = %s", [cluster_id])
    stopped = part(server, "observer")
    os.kill(stopped, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{stopped}").exists(), seconds=60)
    cluster.sent = 0  # it may have taken the first pieces
    wait_for(lambda: cluster.sent, seconds=60)
    with watching(server, "observer") as seen:
        time.sleep(6)
    assert rows(server, cluster_id) <= MOST_ROWS
    assert seen.growth < MOST_GROWTH
    assert len(lines(server, cluster_id)) < 20

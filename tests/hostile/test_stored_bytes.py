"""What a tenant can leave behind on the server's disk: orders that wait, clusters, tokens."""

import json
import os
import secrets
import signal
from collections.abc import Iterator
from typing import Any

import httpx2
import psycopg
import pytest

from tests.support.charts import config_map_chart
from tests.support.hostile_clusters import HostileCluster
from tests.support.servers import RunningServer, open_folder, part, run_server, wait_for
from tests.support.wire import assert_error

MIB = 1024 * 1024
LIMITS = {
    "PILOTHOUSE_QUEUE__WAITING_BYTES_PER_PROJECT": str(8 * MIB),
    "PILOTHOUSE_QUEUE__RETRY_SECONDS": "7",
    "PILOTHOUSE_CLUSTER__PER_PROJECT": "2",
    "PILOTHOUSE_IDENTITY__TOKENS_PER_USER": "3",
    "PILOTHOUSE_SUPERVISOR__SILENT_SECONDS": "600",
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=LIMITS) as running:
        yield running


@pytest.fixture
def cluster_id(server: RunningServer, cluster: HostileCluster) -> Iterator[str]:
    made = register(server, cluster, "one")
    assert made.status_code == 201, made.text
    server.wait_until_listed(made.json()["id"])
    yield made.json()["id"]
    assert server.send("DELETE", f"/api/v1/clusters/{made.json()['id']}").status_code == 204


@pytest.fixture
def no_worker(server: RunningServer) -> Iterator[None]:
    """Stands for places that are all taken."""
    wait_for(lambda: part(server, "observer"))  # the last part to be started
    worker = wait_for(lambda: part(server, "worker"))
    os.kill(worker, signal.SIGSTOP)
    yield
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM operations")
    os.kill(worker, signal.SIGCONT)


def register(server: RunningServer, cluster: HostileCluster, name: str) -> httpx2.Response:
    return server.send("POST", "/api/v1/clusters", json_body={"name": name, "kubeconfig": cluster.kubeconfig})


def create(server: RunningServer, cluster_id: str, chart: str, name: str, values: dict[str, Any]) -> httpx2.Response:
    body = {"chart_id": chart, "namespace": "shop", "name": name, "values": values}
    return server.send("POST", f"/cce/cam/v3/clusters/{cluster_id}/releases", json_body=body)


def waiting(server: RunningServer) -> tuple[int, int]:
    """How many operations wait, and what their orders take on disk."""
    with psycopg.connect(server.database_url) as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(sum(pg_column_size(request_sealed) + pg_column_size(shown_sealed)), 0)"
            " FROM operations WHERE state = 'queued'"
        ).fetchone()
    assert row is not None
    return row[0], int(row[1])


@pytest.mark.usefixtures("no_worker")
def test_orders_that_wait_are_packed_and_limited_in_bytes(server: RunningServer, cluster_id: str):
    chart = server.upload(config_map_chart("stored"), parameters='{"skip_lint": true}').json()["id"]
    repeated = {f"k{number}": secrets.token_hex(20) * 10_500 for number in range(9)}  # 3.8 MB
    for number in range(3):
        made = create(server, cluster_id, chart, f"packed{number}", repeated)
        assert made.status_code == 201, made.text
    count, size = waiting(server)
    assert count == 3
    assert size < MIB  # 22 MB unpacked
    answers = [
        create(server, cluster_id, chart, f"random{number}", {"k": secrets.token_hex(450_000)}) for number in range(12)
    ]
    accepted = [one for one in answers if one.status_code == 201]
    refused = [one for one in answers if one.status_code != 201]
    assert accepted
    assert refused
    for answer in refused:
        assert_error(answer, 429, "APIGW.0308", "queued requests of this project have")
        assert answer.headers["retry-after"] == "7"
    count, size = waiting(server)
    assert count == 3 + len(accepted)
    assert 6 * MIB < size <= 8 * MIB
    # What is small is not in the way of anybody.
    assert create(server, cluster_id, chart, "small", {"k": "v"}).status_code == 201
    # And what was packed is shown as it was ordered.
    shown = server.send("GET", f"/cce/cam/v3/clusters/{cluster_id}/namespace/shop/releases/packed0")
    assert shown.status_code == 200, shown.text
    values = shown.json()["values"]
    assert (json.loads(values) if isinstance(values, str) else values)["k0"] == repeated["k0"]


@pytest.mark.usefixtures("cluster_id")
def test_a_project_has_as_many_clusters_as_it_may(server: RunningServer, cluster: HostileCluster):
    second = register(server, cluster, "two")
    assert second.status_code == 201, second.text
    asked = len(cluster.requests)
    refused = register(server, cluster, "three")
    assert_error(refused, 400, "CCE.01400001", "this project has 2 clusters, the limit; remove one first")
    assert not [one for one in cluster.requests[asked:] if "version" in one]
    assert server.send("DELETE", f"/api/v1/clusters/{second.json()['id']}").status_code == 204


def test_the_oldest_token_ends_when_a_user_has_too_many(server: RunningServer):
    def log_in() -> str:
        user = {"name": "admin", "password": server.password, "domain": {"name": "pilothouse"}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        with httpx2.Client(base_url=server.url, trust_env=False) as http:
            answer = http.post("/v3/auth/tokens", json=body)
        assert answer.status_code == 201, answer.text
        return answer.headers["x-subject-token"]

    def lives(token: str) -> bool:
        with httpx2.Client(base_url=server.url, trust_env=False) as http:
            return http.get("/v3/projects", headers={"x-auth-token": token}).status_code == 200

    tokens = [log_in() for _ in range(5)]
    assert [lives(token) for token in tokens] == [False, False, True, True, True]

"""A cluster's address is no way to learn what else is in the network: every failure looks and lasts the same."""

import asyncio
import socket
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.support.fake_api_servers import kubeconfig as kubeconfig_of
from tests.support.hostile_clusters import Attack, HostileCluster, answer
from tests.support.servers import RunningServer, free_port, open_folder, run_server

SECONDS = 1.5
#: What a busy machine may add.
BUSY = 5
LIMITS = {"PILOTHOUSE_CLUSTER__ANSWER_SECONDS": str(SECONDS)}
TOLD = "cannot be reached as a Kubernetes API server; the log of Pilothouse has the cause"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=LIMITS) as running:
        yield running


def register(server: RunningServer, kubeconfig: str) -> tuple[int, str, float]:
    started = time.monotonic()
    body = {"name": f"probe-{uuid.uuid4().hex[:8]}", "kubeconfig": kubeconfig}
    told = server.send("POST", "/api/v1/clusters", json_body=body)
    return told.status_code, told.json().get("errorMessage", told.json().get("id")), time.monotonic() - started


def saying(body: object, status: int = 200) -> Attack:
    async def attack(_: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, body, status=status)

    return attack


async def silent(_: str, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def closing(_: str, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


SPEAKERS: dict[str, Attack] = {
    "silent": silent,
    "closing": closing,
    "a page": saying(b"<html>"),
    "a login page": saying(b"<html>", 401),
    "other JSON": saying({"version": 1}),
    "not found": saying(b"no", 404),
    "elsewhere": saying(b"", 302),
}


@pytest.mark.parametrize("name", SPEAKERS)
def test_a_stranger_learns_nothing_from_what_answers(name: str, server: RunningServer, cluster: HostileCluster):
    cluster.attacks["/"] = SPEAKERS[name]
    status, told, seconds = register(server, cluster.kubeconfig)
    assert (status, told) == (500, f"https://127.0.0.1:{cluster.port} {TOLD}")
    assert SECONDS <= seconds < SECONDS + BUSY


def test_a_stranger_learns_nothing_from_what_does_not_answer(server: RunningServer):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        places = {
            "closed": free_port(),
            "mute": mute.getsockname()[1],
            "plain HTTP": int(server.url.rpartition(":")[2]),
            "TLS of others": int(server.tls_url.rpartition(":")[2]),
        }
        for place, port in places.items():
            status, told, seconds = register(server, kubeconfig_of(port))
            assert (status, told) == (500, f"https://127.0.0.1:{port} {TOLD}"), place
            assert SECONDS <= seconds < SECONDS + BUSY, place
    status, told, seconds = register(server, kubeconfig_of(6443, host="nowhere.invalid"))
    assert (status, told) == (500, f"https://nowhere.invalid:6443 {TOLD}")
    assert SECONDS <= seconds < SECONDS + BUSY


def test_a_kubernetes_that_refuses_the_account_says_so(server: RunningServer, cluster: HostileCluster):
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "who are you?", "code": 401}
    cluster.attacks["/"] = saying(body, 401)
    status, told, _ = register(server, cluster.kubeconfig)
    assert status == 500
    assert "refuses the registered account (401): who are you?" in told


def test_a_registered_cluster_tells_why_it_fails(server: RunningServer, cluster: HostileCluster):
    status, cluster_id, _ = register(server, cluster.kubeconfig)
    assert status == 201
    cluster.attacks["/"] = saying(b"<html>")
    told = server.send("GET", f"/api/v1/clusters/{cluster_id}/probe").json()["errorMessage"]
    assert "answered 200, but not as a Kubernetes API server" in told
    assert server.send("DELETE", f"/api/v1/clusters/{cluster_id}").status_code == 204

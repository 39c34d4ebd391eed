"""Values that a cluster packs into little cost their readers what they are unpacked, within bounds."""

import json
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx2
import pytest

from tests.support.costs import MIB, MOST_GROWTH, MOST_MILLISECONDS, least_hold, watching
from tests.support.hostile_clusters import HostileCluster, release_secret
from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.users import add_person

REVISIONS = 24
RELEASES = 24


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=None) as running:
        yield running


def register(server: RunningServer, cluster: HostileCluster) -> str:
    body = {"name": f"heavy-{uuid.uuid4().hex[:8]}", "kubeconfig": cluster.kubeconfig}
    made = server.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    cluster_id = str(made.json()["id"])
    server.wait_until_listed(cluster_id)
    return cluster_id


def heavy(name: str, revision: int = 1, *, mebibytes: int = 3) -> dict[str, Any]:
    half = mebibytes * MIB // 2 - 100
    return release_secret(name, revision=revision, values={"a": "a" * half}, config={"b": "b" * half})


def ask(server: RunningServer, cluster_id: str, path: str) -> httpx2.Response:
    answer = server.send("GET", f"/cce/cam/v3/clusters/{cluster_id}/{path}", timeout=60)
    assert answer.status_code == 200, answer.text[:300]
    return answer


HISTORY = "namespace/shop/releases/web/history"


def test_lists_and_history_cost_by_what_they_unpack_to(server: RunningServer, cluster: HostileCluster):
    revisions = [heavy("web", number) for number in range(1, REVISIONS + 1)]
    others = [heavy(f"x{number:02}") for number in range(RELEASES - 1)]
    cluster.secrets = [*revisions, *others]
    assert sum(len(one["data"]["release"]) for one in cluster.secrets) < 3 * MIB
    cluster_id = register(server, cluster)
    for path in ("releases", HISTORY):
        with watching(server) as seen:
            found = ask(server, cluster_id, path).json()
        assert seen.growth < MOST_GROWTH, path
        assert len(found) == 24
        assert all(3 * MIB - 300 < len(one["values"]) < 3 * MIB for one in found)
        if path == HISTORY:
            assert [one["version"] for one in found] == list(range(REVISIONS, 0, -1))
        assert least_hold(server, partial(ask, server, cluster_id, path)) < MOST_MILLISECONDS


def test_values_over_the_limit_are_left_out_and_said(server: RunningServer, cluster: HostileCluster):
    cluster.secrets = [heavy("web", 1, mebibytes=1), heavy("web", 2, mebibytes=7), heavy("kept", mebibytes=1)]
    cluster_id = register(server, cluster)
    newest, first = ask(server, cluster_id, HISTORY).json()
    listed = {one["name"]: one for one in ask(server, cluster_id, "releases").json()}
    shown = ask(server, cluster_id, "namespace/shop/releases/web").json()
    for one in (newest, listed["web"], shown):
        assert (one["version"], one["status"]) == (2, "DEPLOYED")
        said = json.loads(one["values"])
        assert set(said) == {"error"}
        assert "left out" in said["error"]
        assert "4194304" in said["error"]
    assert (first["version"], listed["kept"]["version"]) == (1, 1)
    for one in (first, listed["kept"]):
        assert json.loads(one["values"]).keys() == {"a", "b"}
    reader = add_person(server, "readonly").server
    assert "left out" in json.loads(ask(reader, cluster_id, "namespace/shop/releases/web").json()["values"])["error"]


@pytest.mark.parametrize("role", ["readonly", "CCE FullAccess"])
def test_many_values_do_not_hold_the_loop(server: RunningServer, cluster: HostileCluster, role: str):
    cluster.secrets = [release_secret("web", config={"a": list(range(240_000))})]
    cluster_id = register(server, cluster)
    reader = add_person(server, role).server
    for path in ("namespace/shop/releases/web", "releases", HISTORY):
        found = ask(reader, cluster_id, path).json()
        one = json.loads((found[0] if isinstance(found, list) else found)["values"])
        assert one["a"][-1] == ("******" if role == "readonly" else 239_999)
        assert least_hold(server, partial(ask, reader, cluster_id, path)) < MOST_MILLISECONDS

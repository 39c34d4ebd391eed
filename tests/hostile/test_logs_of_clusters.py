"""Logs of a cluster that lies, floods, or writes secrets into them."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.costs import MIB, MOST_GROWTH, MOST_WAIT, watching
from tests.support.hostile_clusters import Attack, HostileCluster, answer, release_secret
from tests.support.servers import RunningServer

PODS = "/api/v1/namespaces/shop/pods"
MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
---
apiVersion: v1
kind: Secret
metadata: {name: web}
stringData: {key: of-the-release-s-secret}
"""


def says(body: object, *, status: int = 200) -> Attack:
    async def attack(_: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, body, status=status)

    return attack


def owned(kind: str, name: str, uid: str, by: dict[str, str] | None = None, **marks: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": uid, "ownerReferences": [{"controller": True, **by}] if by else [], **marks}
    return {"kind": kind, "metadata": metadata, "spec": {"containers": [{"name": "main"}]}}


def marks(release: str) -> dict[str, Any]:
    """Return what Helm gives the objects of a release of ``shop``."""
    annotations = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "shop"}
    return {"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": annotations}


@pytest.fixture
def logs(attacked: RunningServer, cluster: HostileCluster) -> Iterator[str]:
    """The address of the log of ``web-1``, which is a pod of the release by its owners."""
    config = {"password": "hunter2-of-values", "text": "a-common-word"}
    cluster.secrets = [release_secret("web", manifest=MANIFEST, config=config, values=config)]
    kinds = [{"name": f"{kind.lower()}s", "kind": kind, "namespaced": True} for kind in ("ReplicaSet", "Deployment")]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-rs", "uid": "u-2"}
    cluster.attacks |= {
        f"{PODS}/web-1/log": says(b"one\ntwo\n"),
        f"{PODS}/web-1": says(owned("Pod", "web-1", "u-1", owner)),
        "/apis/apps/v1/namespaces/shop/replicasets/web-rs": says(
            owned("ReplicaSet", "web-rs", "u-2", owner | {"kind": "Deployment", "name": "web", "uid": "u-3"})
        ),
        "/apis/apps/v1/namespaces/shop/deployments/web": says(owned("Deployment", "web", "u-3", **marks("web"))),
        "/apis/apps/v1": says({"kind": "APIResourceList", "resources": kinds}),
    }
    body = {"name": f"logs-{uuid.uuid4().hex[:8]}", "kubeconfig": cluster.kubeconfig}
    made = attacked.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    yield f"/api/v1/clusters/{made.json()['id']}/namespaces/shop/releases/web/logs?pod=web-1"
    assert attacked.send("DELETE", f"/api/v1/clusters/{made.json()['id']}").status_code == 204


def test_secrets_in_logs_are_masked(attacked: RunningServer, cluster: HostileCluster, logs: str):
    lines = [
        "connects with hunter2-of-values", "reads of-the-release-s-secret", "sends pht-" + "x" * 43,
        "logs password: anything", "token secret-token of the cluster's account", "says nothing secret",
        "\x1b[31mred\x1b[0m <b>bold</b> \u202eright to left", "x" * 5000,
    ]  # fmt: skip
    cluster.attacks[f"{PODS}/web-1/log"] = says("\n".join(lines).encode())
    found = attacked.send("GET", logs).json()["lines"]
    text = "\n".join(found)
    for secret in ("hunter2", "of-the-release-s", "pht-x", "anything", "secret-token", "\x1b", "\u202e"):
        assert secret not in text
    assert found[5] == "says nothing secret"
    assert len(found[7]) == 4001


def test_a_key_that_begins_before_the_lines_that_were_asked_for_is_masked(
    attacked: RunningServer, cluster: HostileCluster, logs: str
):
    key = ["-----BEGIN EC PRIVATE KEY-----", *("MHcCAQEE" * 8 for _ in range(4)), "-----END EC PRIVATE KEY-----"]
    lines = ["before", *key, "after"]

    async def tell(target: str, writer: asyncio.StreamWriter) -> None:
        tail = int(target.partition("tailLines=")[2].partition("&")[0])
        await answer(writer, "\n".join(lines[-tail:]).encode())

    cluster.attacks[f"{PODS}/web-1/log"] = tell
    for tail in range(1, len(lines) + 1):
        shown = "\n".join(attacked.send("GET", f"{logs}&tail={tail}").json()["lines"])
        assert "MHcC" not in shown, tail
        assert shown.endswith("after")


def test_what_was_asked_for_is_asked_of_the_cluster(attacked: RunningServer, cluster: HostileCluster, logs: str):
    assert attacked.send("GET", f"{logs}&tail=7&previous=true").json()["lines"] == ["one", "two"]
    [asked] = [one for one in cluster.requests if "/log" in one]
    assert asked == f"GET {PODS}/web-1/log?container=main&tailLines=7&previous=true"
    refusal = {"kind": "Status", "message": 'previous terminated container "main" in pod "web-1" not found'}
    cluster.attacks[f"{PODS}/web-1/log"] = says(refusal, status=400)
    answered = attacked.send("GET", f"{logs}&previous=true")
    assert answered.status_code == 404
    assert "there is no such log now" in answered.text
    assert "previous terminated container" in answered.text


@pytest.mark.parametrize(
    "lie", ["another uid", "a ring", "no kind", "names of others", "nonsense", "no mark", "of another"]
)
def test_an_owner_counts_with_its_uid_only(attacked: RunningServer, cluster: HostileCluster, logs: str, lie: str):
    def pod(owner: Any) -> Attack:
        return says(owned("Pod", "web-1", "u-1", owner))

    right = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-rs", "uid": "u-2"}
    web = "/apis/apps/v1/namespaces/shop/deployments/web"
    lies: dict[str, dict[str, Attack]] = {
        "another uid": {f"{PODS}/web-1": pod(right | {"uid": "u-9"})},
        "a ring": {
            "/apis/apps/v1/namespaces/shop/replicasets/web-rs": says(owned("ReplicaSet", "web-rs", "u-2", right))
        },
        "no kind": {f"{PODS}/web-1": pod(right | {"kind": "Nothing"})},
        "names of others": {f"{PODS}/web-1": pod(right | {"name": "../../../secrets"})},
        "no mark": {web: says(owned("Deployment", "web", "u-3"))},
        "of another": {web: says(owned("Deployment", "web", "u-3", **marks("another")))},
        "nonsense": {f"{PODS}/web-1": says({"kind": 7, "metadata": {"ownerReferences": [7, {"uid": []}]}})},
    }
    cluster.attacks |= lies[lie]
    answered = attacked.send("GET", logs)
    assert answered.status_code in {400, 404}, answered.text
    assert not [one for one in cluster.requests if "/log" in one]


@pytest.mark.parametrize("piece", [b"x" * (MIB // 4), b"short line\n" * 20_000], ids=["one line", "lines"])
def test_an_endless_log_costs_little_and_ends(
    attacked: RunningServer, cluster: HostileCluster, logs: str, piece: bytes
):
    async def flood(_: str, writer: asyncio.StreamWriter) -> None:
        await cluster.flood(writer, piece)

    cluster.attacks[f"{PODS}/web-1/log"] = flood
    with watching(attacked) as seen, ThreadPoolExecutor(3) as callers:
        started = time.monotonic()
        answers = list(callers.map(lambda _: attacked.send("GET", logs, timeout=60), range(3)))
        assert time.monotonic() - started < 40
    assert {one.status_code for one in answers} <= {200, 429, 500}
    assert seen.growth < MOST_GROWTH
    assert seen.slowest < MOST_WAIT

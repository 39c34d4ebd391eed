"""Reads answer from the index: it follows what ``helm`` does, outlives its cluster, and survives hostile Secrets."""

import base64
import gzip
import json
import os
import signal
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psycopg
import pytest
from huaweicloudsdkcce.v3 import ListReleasesRequest, ShowReleaseRequest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Secret

from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.forwarder import Forwarder, forward
from tests.support.servers import RunningServer, part
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

Helm = Callable[..., str]
Found = TypeVar("Found")


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("chart") / "chart.tgz"
    file.write_bytes(build_chart(templates={"map.yaml": config_map_template()}, values={"text": "x"}))
    return str(file)


@pytest.fixture(scope="module")
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    yield client
    client.close()


@pytest.fixture
def frail(server: RunningServer, kubeconfig: str) -> Iterator[tuple[Forwarder, str]]:
    """Yield the way to the cluster, and the id under which the cluster is registered through it."""
    forwarder, text = forward(kubeconfig)
    body = {"name": f"frail-{forwarder.port}", "kubeconfig": text}
    answer = server.send("POST", "/api/v1/clusters", json_body=body)
    assert answer.status_code == 201, answer.text
    try:
        server.wait_until_listed(answer.json()["id"])
        yield forwarder, answer.json()["id"]
    finally:
        forwarder.stop()
        assert server.send("DELETE", f"/api/v1/clusters/{answer.json()['id']}").status_code == 204


def eventually(look: Callable[[], Found], is_it: Callable[[Found], bool], *, seconds: float = 30) -> Found:
    until = time.monotonic() + seconds
    while not is_it(found := look()):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def history(server: RunningServer, namespace: str, name: str = "web", *, cluster_id: str = "") -> list[tuple[Any, ...]]:
    """Version, status and text of each revision; nothing while there is no release."""
    cluster_id = cluster_id or server.cluster_id
    answer = server.send("GET", f"/cce/cam/v3/clusters/{cluster_id}/namespace/{namespace}/releases/{name}/history")
    if answer.status_code == 404:
        return []
    return [(one["version"], one["status"], json.loads(one["values"])["text"]) for one in answer.json()]


def listed(server: RunningServer, namespace: str, query: str = "", *, cluster_id: str = "") -> httpx2.Response:
    cluster_id = cluster_id or server.cluster_id
    answer = server.send("GET", f"/cce/cam/v3/clusters/{cluster_id}/releases?namespace={namespace}{query}")
    assert answer.status_code == 200, answer.text
    return answer


def test_what_helm_does_is_seen(server: RunningServer, namespace: str, helm_cli: Helm, chart: str):
    server.wait_until_listed()

    def until(*expected: tuple[int, str, str]) -> None:
        eventually(lambda: history(server, namespace), lambda found: found == list(expected))

    helm_cli("install", "web", chart, "-n", namespace)
    until((1, "DEPLOYED", "x"))
    helm_cli("upgrade", "web", chart, "-n", namespace, "--set", "text=y")
    until((2, "DEPLOYED", "y"), (1, "SUPERSEDED", "x"))
    helm_cli("rollback", "web", "1", "-n", namespace)
    until((3, "DEPLOYED", "x"), (2, "SUPERSEDED", "y"), (1, "SUPERSEDED", "x"))
    client = server.sdk()
    shown = client.show_release(ShowReleaseRequest(cluster_id=server.cluster_id, namespace=namespace, name="web"))
    by_helm = json.loads(helm_cli("status", "web", "-n", namespace, "-o", "json"))
    assert (shown.version, shown.status_description) == (3, by_helm["info"]["description"])
    in_list = client.list_releases(ListReleasesRequest(cluster_id=server.cluster_id, namespace=namespace)).body
    assert [(one.name, one.version, one.values) for one in in_list] == [("web", 3, shown.values)]
    helm_cli("uninstall", "web", "-n", namespace)
    until()
    assert listed(server, namespace).json() == []


def test_a_cluster_that_is_away_keeps_what_is_known_and_says_how_old_it_is(
    server: RunningServer, frail: tuple[Forwarder, str], namespace: str, helm_cli: Helm, chart: str
):
    forwarder, cluster_id = frail
    helm_cli("install", "web", chart, "-n", namespace)
    helm_cli("install", "other", chart, "-n", namespace)
    eventually(lambda: listed(server, namespace, cluster_id=cluster_id).json(), lambda found: len(found) == 2)
    forwarder.stop()
    helm_cli("upgrade", "web", chart, "-n", namespace, "--set", "text=unseen")
    helm_cli("uninstall", "other", "-n", namespace)
    index = eventually(
        lambda: server.index(cluster_id), lambda found: bool(found["error"]) and found["age_seconds"] > 2
    )
    assert f"https://127.0.0.1:{forwarder.port}" in index["error"]
    answer = listed(server, namespace, cluster_id=cluster_id)
    assert [(one["name"], one["version"], one["status"]) for one in answer.json()] == [
        ("other", 1, "DEPLOYED"),
        ("web", 1, "DEPLOYED"),
    ]
    assert int(answer.headers["x-pilothouse-age"]) >= 2
    assert history(server, namespace, cluster_id=cluster_id) == [(1, "DEPLOYED", "x")]
    forwarder.resume()
    eventually(
        lambda: history(server, namespace, cluster_id=cluster_id),
        lambda found: found == [(2, "DEPLOYED", "unseen"), (1, "SUPERSEDED", "x")],
    )
    assert history(server, namespace, "other", cluster_id=cluster_id) == []
    assert server.index(cluster_id)["error"] == ""


def test_what_happens_while_the_observer_is_dead_is_caught_up_with(
    server: RunningServer, namespace: str, helm_cli: Helm, chart: str
):
    helm_cli("install", "web", chart, "-n", namespace)
    helm_cli("install", "gone", chart, "-n", namespace)
    eventually(lambda: listed(server, namespace).json(), lambda found: len(found) == 2)
    os.kill(part(server, "observer"), signal.SIGKILL)
    helm_cli("uninstall", "gone", "-n", namespace)
    helm_cli("upgrade", "web", chart, "-n", namespace, "--set", "text=y")
    assert history(server, namespace)[-1][2] == "x"
    eventually(lambda: history(server, namespace)[0], lambda found: found == (2, "DEPLOYED", "y"))
    eventually(lambda: history(server, namespace, "gone"), lambda found: found == [])


def test_an_observer_that_was_away_too_long_lists_again(
    server: RunningServer, namespace: str, helm_cli: Helm, chart: str
):
    helm_cli("install", "gone", chart, "-n", namespace)
    eventually(lambda: history(server, namespace, "gone"), lambda found: found == [(1, "DEPLOYED", "x")])
    observer = part(server, "observer")
    os.kill(observer, signal.SIGSTOP)
    helm_cli("uninstall", "gone", "-n", namespace)
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        # The cluster's API server has long forgotten what came after its first write, and answers 410.
        connection.execute("UPDATE cluster_watches SET resource_version = 1")
    os.kill(observer, signal.SIGKILL)
    eventually(lambda: history(server, namespace, "gone"), lambda found: found == [])
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        # What was read is noted as soon as all of it is, which is a moment later.
        eventually(
            lambda: connection.execute("SELECT min(epoch), min(resource_version) > 1 FROM cluster_watches").fetchone(),
            lambda found: found == (0, True),
        )


def test_the_end_of_an_operation_is_shown_at_once_however_late_the_observer_is(
    server: RunningServer, namespace: str, chart: str
):
    server.wait_until_listed()
    uploaded = server.upload(Path(chart).read_bytes(), parameters='{"override": true}').json()
    observer = part(server, "observer")
    os.kill(observer, signal.SIGSTOP)
    try:
        made = server.create(chart_id=uploaded["id"], name="web", namespace=namespace, description="mine")
        assert made.status_code == 201, made.text
        assert server.wait_until_final(namespace, "web")["status"] == "DEPLOYED"
        assert history(server, namespace) == [(1, "DEPLOYED", "x")]
        found = listed(server, namespace, f"&chart_id={uploaded['id']}").json()
        assert [(one["status"], one["description"]) for one in found] == [("DEPLOYED", "mine")]
    finally:
        os.kill(observer, signal.SIGCONT)
    eventually(lambda: server.index()["age_seconds"], lambda age: age < 5)
    assert history(server, namespace) == [(1, "DEPLOYED", "x")]
    assert server.show(namespace, "web").json()["description"] == "mine"


def release_secret(namespace: str, name: str, revision: int, payload: bytes | dict[str, Any], **labels: str) -> Secret:
    text = payload if isinstance(payload, bytes) else gzip.compress(json.dumps(payload).encode())
    return Secret(
        type="helm.sh/release.v1",
        metadata=ObjectMeta(
            name=f"sh.helm.release.v1.{name}.v{revision}",
            namespace=namespace,
            labels={"owner": "helm", "name": name, "version": str(revision), "status": "deployed"} | labels,
        ),
        data={"release": base64.b64encode(base64.b64encode(text)).decode()},
    )


def release(namespace: str, name: str, revision: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": namespace,
        "version": revision,
        "info": {"status": "deployed", "description": "by hand", "last_deployed": "2026-01-02T03:04:05Z"},
        "chart": {"metadata": {"name": "hand", "version": "1.0.0"}, "values": {"text": "x"}},
        "config": {},
        "manifest": "",
    } | changes


def bomb(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(bytes(1024 * 1024)) for _ in range(mebibytes)]) + packer.flush()


def unreadable(server: RunningServer, namespace: str) -> dict[str, str]:
    """Return the entries about the namespace's unreadable Secrets; other tests have such Secrets of their own."""
    index = server.index()
    assert index["unreadable"] >= len(index["unreadable_secrets"])
    return {one["name"]: one["problem"] for one in index["unreadable_secrets"] if one["namespace"] == namespace}


def test_hostile_secrets_are_named_and_cost_nobody_else(
    server: RunningServer, api: Client, namespace: str, helm_cli: Helm, chart: str
):
    server.wait_until_listed()
    hostile = {
        "bomb": release_secret(namespace, "bomb", 1, bomb(300)),
        "chartless": release_secret(namespace, "chartless", 1, {"name": "chartless", "version": 1, "info": {}}),
        "cut": release_secret(namespace, "cut", 1, gzip.compress(b"{}" * 1000)[:-9]),
        "liar": release_secret(namespace, "liar", 1, release(namespace, "another")),
        "half": release_secret(namespace, "half", 1, release(namespace, "half", info={"description": "\ud800"})),
        "mislabelled": release_secret(namespace, "mislabelled", 1, release(namespace, "mislabelled"), version="7"),
    }
    odd = release(
        namespace,
        "odd",
        9_999_999_999,
        info={"status": "x\x00y", "description": "nul\x00" * 9000, "last_deployed": "9999-12-31T23:59:59-14:00"},
        chart={"metadata": {"name": "n" * 5000, "version": "\x00"}, "values": {"text": "nul \x00"}},
    )
    for secret in hostile.values():
        api.create(secret)
    api.create(release_secret(namespace, "odd", 9_999_999_999, gzip.compress(json.dumps(odd).encode())))
    helm_cli("install", "web", chart, "-n", namespace)
    eventually(lambda: history(server, namespace), lambda found: found == [(1, "DEPLOYED", "x")])
    problems = eventually(lambda: unreadable(server, namespace), lambda found: len(found) == len(hostile))
    assert "unpacks to more than" in problems["sh.helm.release.v1.bomb.v1"]
    assert "another release" in problems["sh.helm.release.v1.liar.v1"]
    shown = {one["name"]: one for one in listed(server, namespace).json()}
    assert set(shown) == {"odd", "web"}
    assert (shown["odd"]["version"], shown["odd"]["status"]) == (9_999_999_999, "UNKNOWN")
    assert json.loads(shown["odd"]["values"]) == {"text": "nul \x00"}
    for secret in hostile.values():
        assert secret.metadata is not None
        api.delete(Secret, str(secret.metadata.name), namespace=namespace)
    eventually(lambda: unreadable(server, namespace), lambda found: found == {})


def test_what_cannot_be_read_is_not_written_over_and_the_answer_names_the_secret(
    server: RunningServer, api: Client, namespace: str
):
    chart_id = str(server.upload(config_map_chart("mended")).json()["id"])
    api.create(release_secret(namespace, "cut", 1, gzip.compress(b"{}" * 1000)[:-9]))
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/cut"
    update = {"chart_id": chart_id, "action": "upgrade", "values": {}, "parameters": {}}
    words = (f"{namespace}/sh.helm.release.v1.cut.v1", "fix or delete this Secret")
    assert_error(server.send("PUT", path, json_body=update), 500, "CCE.01500001", *words)
    assert_error(server.send("DELETE", path), 500, "CCE.01500001", *words)
    own, body = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/cut", {"chart": {"id": chart_id}}
    assert_error(server.send("PUT", own, json_body=body), 500, "CCE.01500001", *words)
    assert_error(server.send("POST", f"{own}/plan", json_body={"deploy": body}), 500, "CCE.01500001", *words)
    assert_error(server.send("GET", f"{own}/diff?to=live"), 500, "CCE.01500001", words[0])
    api.create(release_secret(namespace, "cut", 2, release(namespace, "cut", 2)))
    assert_error(server.send("GET", f"{own}/diff?from=1&to=2"), 500, "CCE.01500001", words[0])
    api.delete(Secret, "sh.helm.release.v1.cut.v2", namespace=namespace)
    assert_error(server.create(chart_id=chart_id, namespace=namespace, name="cut"), 409, "CCE.01409001", "cut")
    assert [one.metadata.name for one in api.list(Secret, namespace=namespace) if one.metadata] == [
        "sh.helm.release.v1.cut.v1"
    ]
    api.delete(Secret, "sh.helm.release.v1.cut.v1", namespace=namespace)
    assert server.create(chart_id=chart_id, namespace=namespace, name="cut").status_code == 201
    assert server.wait_until_final(namespace, "cut")["status"] == "DEPLOYED"


def test_a_long_list_is_complete_in_order_and_comes_in_parts_when_asked(
    server: RunningServer, api: Client, namespace: str
):
    names = [f"r{number:03}" for number in range(450)]
    with ThreadPoolExecutor(4) as pool:
        for name in names:
            pool.submit(api.create, release_secret(namespace, name, 1, release(namespace, name)))
    answer = eventually(lambda: listed(server, namespace), lambda found: len(found.json()) == len(names))
    assert [one["name"] for one in answer.json()] == names
    assert "content-length" not in answer.headers
    assert json.loads(answer.json()[7]["values"]) == {"text": "x"}
    assert answer.json()[7]["update_at"] == "2026-01-02T03:04:05+00:00"

    seen, marker, parts = [], "", 0
    while parts == 0 or marker:
        part_of = listed(server, namespace, f"&limit=200&marker={marker}")
        seen += [one["name"] for one in part_of.json()]
        marker = part_of.headers.get("x-pilothouse-marker", "")
        parts += 1
    assert (seen, parts) == (names, 3)

    short = listed(server, namespace, "&fields=name,version&limit=2").json()
    assert short == [{"name": "r000", "version": 1}, {"name": "r001", "version": 1}]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("limit=1001", "limit"),
        ("marker=no-slash", "marker"),
        ("fields=name,secret", "'secret'"),
    ],
)
def test_parts_of_a_list_that_make_no_sense_are_refused(server: RunningServer, query: str, said: str):
    answer = server.send("GET", f"/cce/cam/v3/clusters/{server.cluster_id}/releases?{query}")
    assert_error(answer, 400, "CCE.01400001", said)


def test_a_removed_cluster_is_forgotten_and_one_registered_again_starts_anew(
    server: RunningServer, kubeconfig: str, namespace: str, helm_cli: Helm, chart: str
):
    helm_cli("install", "web", chart, "-n", namespace)
    for _ in range(2):
        body = {"name": f"again-{uuid.uuid4().hex[:8]}", "kubeconfig": kubeconfig}
        made = server.send("POST", "/api/v1/clusters", json_body=body)
        cluster_id = made.json()["id"]
        # Before the first list is complete, and after it: nothing looks empty that is not.
        assert [one["name"] for one in listed(server, namespace, cluster_id=cluster_id).json()] == ["web"]
        assert history(server, namespace, cluster_id=cluster_id) == [(1, "DEPLOYED", "x")]
        server.wait_until_listed(cluster_id)
        assert [one["name"] for one in listed(server, namespace, cluster_id=cluster_id).json()] == ["web"]
        assert server.send("DELETE", f"/api/v1/clusters/{cluster_id}").status_code == 204
        path = f"/cce/cam/v3/clusters/{cluster_id}/releases"
        assert_error(server.send("GET", path), 404, "CCE.01404001", cluster_id)

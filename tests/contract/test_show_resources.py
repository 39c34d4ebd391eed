"""``show_resources=true``: the live objects of a release, as ``helm status`` groups them."""

import dataclasses
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huaweicloudsdkcce.v3 import ShowReleaseRequest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
from lightkube.resources.core_v1 import ConfigMap, ServiceAccount
from lightkube.resources.rbac_authorization_v1 import Role, RoleBinding

from tests.support.charts import build_chart, config_map_template
from tests.support.forwarder import forward
from tests.support.servers import RunningServer
from tools.localcluster.cluster import RunningCluster

Helm = Callable[..., str]
WORKLOAD = """\
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: main, image: busybox}}]}}
"""
TEMPLATES = {
    "web.yaml": WORKLOAD.format(kind="Deployment", name="web"),
    "same.yaml": WORKLOAD.format(kind="ReplicaSet", name="web").replace("name: web}", "name: twin}", 1),
    "list.yaml": """\
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: one}, data: {a: "1"}}
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: two}}
""",
    "secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: hidden}\nstringData: {password: marker-7f3a}\n",
    "account.yaml": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot}\n",
    "role.yaml": 'apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: "some:role"}\nrules: []\n',
}


@pytest.fixture
def web(namespace: str, helm_cli: Helm, tmp_path: Path) -> str:
    """Return a release of many kinds, made by helm."""
    chart = tmp_path / "chart.tgz"
    chart.write_bytes(build_chart(templates=TEMPLATES))
    helm_cli("install", "web", str(chart), "-n", namespace)
    return namespace


def shown(server: RunningServer, namespace: str, query: str) -> Any:
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/web{query}"
    answer = server.send("GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()["resources"]


def named(groups: dict[str, list[dict[str, Any]]]) -> dict[str, list[Any]]:
    """Each object by kind, name and namespace; a list of pods as those of its pods."""
    return {
        group: [
            sorted((one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")) for one in objects)
            for member in members
            for objects in [member.get("items", [member])]
        ]
        for group, members in groups.items()
    }


def test_live_objects_are_grouped_as_helm_groups_them(server: RunningServer, web: str, helm_cli: Helm):
    server.wait_until_listed()
    server.wait_until_shown(web, "web")
    by_helm = json.loads(helm_cli("status", "web", "-n", web, "-o", "json"))["info"]["resources"]
    request = ShowReleaseRequest(cluster_id=server.cluster_id, namespace=web, name="web", show_resources="true")
    ours = json.loads(server.sdk().show_release(request).resources)
    assert named(ours) == named(by_helm)
    assert {"v1/Deployment", "v1/ConfigMap", "v1/Role", "v1/Pod(related)"} < set(ours)
    assert [pod["spec"]["containers"][0]["name"] for pod in ours["v1/Pod(related)"][0]["items"]] == ["main"] * 4
    assert ours["v1/ServiceAccount"][0]["metadata"]["uid"] == by_helm["v1/ServiceAccount"][0]["metadata"]["uid"]
    assert ours["v1/Secret"][0]["data"] == {"password": "******"}
    assert "managedFields" not in json.dumps(ours)


def test_only_true_asks_for_them(server: RunningServer, web: str):
    server.wait_until_shown(web, "web")
    assert [shown(server, web, query) for query in ("", "?show_resources=", "?show_resources=1")] == ["", "", ""]
    assert shown(server, web, "?show_resources=TRUE") != ""


def test_objects_that_are_gone_are_said_so(server: RunningServer, web: str, kubernetes: RunningCluster):
    server.wait_until_shown(web, "web")
    api = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    api.delete(ConfigMap, "one", namespace=web)
    api.delete(ServiceAccount, "robot", namespace=web)
    api.close()
    groups = json.loads(shown(server, web, "?show_resources=true"))
    gone, there = groups["v1/ConfigMap"]
    assert gone == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "one", "namespace": web},
        "error": "not found",
    }
    assert (there["metadata"]["name"], "error" in there) == ("two", False)
    assert groups["v1/ServiceAccount"][0]["error"] == "not found"


def test_updates_and_deletions_show_them_too(server: RunningServer, namespace: str):
    chart = server.upload(build_chart("shown", templates=TEMPLATES), parameters='{"override": true}').json()["id"]
    assert server.create(chart_id=chart, name="web", namespace=namespace).status_code == 201
    assert server.wait_until_final(namespace, "web")["status"] == "DEPLOYED"
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/web?show_resources=true"
    body = {"chart_id": chart, "action": "upgrade", "parameters": {}, "values": {}}
    updated = server.send("PUT", path, json_body=body)
    assert updated.status_code == 200, updated.text
    assert "v1/Deployment" in json.loads(updated.json()["resources"])
    assert server.wait_until_final(namespace, "web")["status"] == "DEPLOYED"
    deleted = server.send("DELETE", path).json()
    assert deleted["status"] == "DELETING"
    assert deleted["resources"] != ""


def test_a_cluster_that_is_away_is_said_so_beside_what_is_known(
    server: RunningServer, web: str, kubernetes: RunningCluster
):
    forwarder, text = forward(kubernetes.kubeconfig.read_text())
    made = server.send("POST", "/api/v1/clusters", json_body={"name": f"away-{forwarder.port}", "kubeconfig": text})
    away = dataclasses.replace(server, cluster_id=made.json()["id"])
    try:
        away.wait_until_listed()
        forwarder.stop()
        assert "is unavailable" in json.loads(shown(away, web, "?show_resources=true"))["error"]
    finally:
        forwarder.stop()
        server.send("DELETE", f"/api/v1/clusters/{away.cluster_id}")


def test_what_the_account_may_not_read_is_said_so_and_the_rest_is_shown(
    server: RunningServer, web: str, kubernetes: RunningCluster
):
    user = f"limited-{uuid.uuid4().hex[:8]}"
    api = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    rules = [PolicyRule(apiGroups=[""], resources=["secrets", "serviceaccounts"], verbs=["get", "list"])]
    api.create(Role(metadata=ObjectMeta(name=user, namespace=web), rules=rules))
    api.create(
        RoleBinding(
            metadata=ObjectMeta(name=user, namespace=web),
            roleRef=RoleRef(apiGroup="rbac.authorization.k8s.io", kind="Role", name=user),
            subjects=[Subject(apiGroup="rbac.authorization.k8s.io", kind="User", name=user)],
        )
    )
    api.close()
    document = yaml.safe_load(kubernetes.kubeconfig.read_text())
    document["users"][0]["user"]["as"] = user
    body = {"name": user, "kubeconfig": json.dumps(document)}
    made = server.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    limited = dataclasses.replace(server, cluster_id=made.json()["id"])
    try:
        groups = json.loads(shown(limited, web, "?show_resources=true"))
        assert groups["v1/ServiceAccount"][0]["metadata"]["uid"]
        assert "403" in groups["v1/ConfigMap"][0]["error"]
        assert "403" in groups["v1/Pod(related)"][0]["error"]
        # An account that may not list the Secrets of all namespaces cannot be indexed, and is told.
        until = time.monotonic() + 30
        while "secrets is forbidden" not in limited.index()["error"]:
            assert time.monotonic() < until, limited.index()
            time.sleep(0.1)
        assert not limited.index()["listed"]
    finally:
        server.send("DELETE", f"/api/v1/clusters/{limited.cluster_id}")


def test_an_object_with_binary_text_is_shown_like_the_others(server: RunningServer, namespace: str):
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: binary}\ndata: {text: !!binary aGVsbG8=}\n"
    chart = build_chart(f"bin-{namespace[5:]}", templates={"a.yaml": text, "b.yaml": config_map_template(data='"x"')})
    chart_id = server.upload(chart).json()["id"]
    assert server.create(name="bin", namespace=namespace, chart_id=chart_id).status_code == 201
    assert server.wait_until_final(namespace, "bin")["status"] == "DEPLOYED"
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/bin?show_resources=true"
    shown = json.loads(server.send("GET", path).json()["resources"])["v1/ConfigMap"]
    assert {one["metadata"]["name"]: one["data"]["text"] for one in shown} == {"binary": "hello", "bin-config": "x"}


def test_a_manifest_of_100000_nodes_is_shown_whole(server: RunningServer, namespace: str):
    text = """\
{{ range $one := until 10 }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "many-{{ $one }}"}
data:
  {{- range $key := until 5000 }}
  k{{ $key }}: v
  {{- end }}
{{ end }}
"""
    chart_id = server.upload(build_chart(f"many-{namespace[5:]}", templates={"a.yaml": text})).json()["id"]
    assert server.create(name="many", namespace=namespace, chart_id=chart_id).status_code == 201
    assert server.wait_until_final(namespace, "many")["status"] == "DEPLOYED"
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/many?show_resources=true"

    shown = json.loads(server.send("GET", path).json()["resources"])["v1/ConfigMap"]

    assert {one["metadata"]["name"]: len(one["data"]) for one in shown} == {f"many-{one}": 5000 for one in range(10)}

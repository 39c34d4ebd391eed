"""The rights that docs/security-model.md shows are enough, without a wall and behind one; others are named."""

import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube import Client, codecs
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.rbac_authorization_v1 import ClusterRole, ClusterRoleBinding

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.walls import RBAC, Tenant, as_account, token_of_account, walled_cluster
from tests.support.workloads import deployment_template, hook_template
from tools.localcluster.cluster import RunningCluster

_PAGE = Path(__file__).parents[2] / "docs/security-model.md"
_SERVICE = """
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}-web
spec:
  ports: [{port: 80}]
"""
_CHART = build_chart(
    "small",
    templates={
        "config.yaml": config_map_template(),
        "web.yaml": deployment_template(),
        "service.yaml": _SERVICE,
        "before.yaml": hook_job_template("pre-install"),
        "test.yaml": hook_template("test", fate="''", name="check"),
    },
    values={"text": "x"},
)
_MORE = build_chart(
    "more",
    templates={"account.yaml": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: more}\n"},
)


@dataclasses.dataclass(frozen=True)
class Place:
    """A namespace with exactly the page's rights; ``whole``: the account may watch the Secrets of all namespaces."""

    namespace: str
    release: OwnRelease
    whole: bool


@pytest.fixture
def objects(namespace: str) -> list[dict[str, Any]]:
    """Return the objects of the page, with names of this test's own."""
    (manifest,) = (text.split("```")[0] for text in _PAGE.read_text().split("```yaml\n")[1:])
    own = f"small-{uuid.uuid4().hex[:8]}"
    for theirs in ("pilothouse-releases", "pilothouse-index"):
        assert theirs in manifest
        manifest = manifest.replace(theirs, f"{own}-{theirs.removeprefix('pilothouse-')}")
    for theirs in ("namespace: shop", "namespace: pilothouse"):
        assert theirs in manifest
        manifest = manifest.replace(theirs, f"namespace: {namespace}")
    return list(yaml.safe_load_all(manifest))


@pytest.fixture(params=["alone", "walled"])
def place(
    *,
    request: pytest.FixtureRequest,
    server: RunningServer,
    objects: list[dict[str, Any]],
    namespace: str,
    kubernetes: RunningCluster,
    helm_cli: HelmCommand,
) -> Iterator[Place]:
    """Register the cluster with an account that has just these rights, or whose user has them behind a wall."""
    user = f"user-{uuid.uuid4().hex[:8]}"
    walled = request.param == "walled"
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        made = codecs.load_all_yaml(yaml.safe_dump_all(behind_wall(objects, user) if walled else objects))
        for one in made:
            api.create(one)
        kubeconfig = as_account(kubernetes.kubeconfig, token_of_account(api, namespace))
        try:
            if walled:
                tenant = Tenant(user, "", [namespace], kubeconfig)
                with walled_cluster(server, tenant, helm_cli, groups=[]) as there:
                    yield Place(namespace, there.release("web"), whole=False)
            else:
                answer = server.send("POST", "/api/v1/clusters", json_body={"name": user, "kubeconfig": kubeconfig})
                assert answer.status_code == 201, answer.text
                acting = dataclasses.replace(server, cluster_id=answer.json()["id"])
                yield Place(namespace, OwnRelease(acting, namespace, "web", helm_cli), whole=True)
                server.send("DELETE", f"/api/v1/clusters/{acting.cluster_id}")
        finally:
            for one in made:
                if isinstance(one, ClusterRole | ClusterRoleBinding):
                    api.delete(type(one), str(one.metadata and one.metadata.name))


def behind_wall(objects: list[dict[str, Any]], user: str) -> list[dict[str, Any]]:
    """Return the objects as the page says of a wall: the user has the role, and the account may act as the user."""
    account, role, binding, index, of_index = objects
    index["rules"] = [
        {"apiGroups": [""], "resources": ["users"], "resourceNames": [user], "verbs": ["impersonate"]},
    ]
    binding["subjects"] = [{"apiGroup": RBAC, "kind": "User", "name": user}]
    return [account, role, binding, index, of_index]


def test_a_release_is_led_through_its_life_with_these_rights(place: Place, server: RunningServer):
    chart = uploaded(server, _CHART)
    web = place.release
    web.deployed(chart, wait="ready")
    web.server.wait_until_listed(web.server.cluster_id)
    web.deployed(chart, {"object": {"text": "y"}}, wait="ready")
    plan = web.send("POST", "/plan", {"deploy": {"chart": {"id": chart}, "values": [{"object": {"text": "z"}}]}})
    assert plan.status_code in {200, 201}, plan.text
    web.ended(web.send("POST", "/rollback", {"revision": 1}))
    web.ended(web.send("POST", "/test", {}))
    assert web.get("/diff?to=live")["problems"] == []

    def pod() -> str | None:
        tree = [one for one in web.get("/resources")["objects"] if one["kind"] == "Deployment"]
        pods = [pod for replica_set in tree[0]["children"] for pod in replica_set["children"]]
        return pods[0]["name"] if pods and pods[0]["health"] == "healthy" else None

    assert web.get(f"/logs?pod={wait_for(pod)}")["lines"]
    shown = server.send("GET", f"/api/v1/clusters/{web.server.cluster_id}").json()
    assert shown["index"]["error"] == ""
    web.ended(web.send("DELETE"))
    assert web.helm("list", "-n", place.namespace, "-q") == ""


def test_evidence_of_a_failure_misses_nothing_with_these_rights(place: Place, server: RunningServer):
    archive = build_chart("failing", templates={"h.yaml": hook_template("pre-install", fate="fail", name="bad")})
    web = dataclasses.replace(place.release, name="failing")
    operation = web.ended(web.put(uploaded(server, archive)), "failed")
    (found,) = server.send("GET", f"/api/v1/operations/{operation['id']}/evidence").json()
    assert (found["missing"], [pod["owner"] for pod in found["pods"]][:1]) == ([], ["Job/failing-bad"])
    assert found["pods"][0]["containers"][0]["log"]


def test_what_the_chart_creates_beside_them_is_refused_by_name_before_anything_is_written(
    place: Place, server: RunningServer
):
    web = dataclasses.replace(place.release, name="more")
    operation = web.ended(web.put(uploaded(server, _MORE)), "failed")
    assert "serviceaccounts" in operation["text"].lower()
    assert web.helm("list", "-n", place.namespace, "-q") == ""


def uploaded(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])

"""``GET R/logs`` and ``GET R/pod``: the pods of a release on the real cluster, whose nodes serve logs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import Pod

from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer, wait_for
from tests.support.users import add_person
from tests.support.wire import assert_error
from tests.support.workloads import deployment_template, hook_template
from tools.localcluster.cluster import RunningCluster

LAST = "this line is on standard error"


@pytest.fixture(scope="module")
def path(server: RunningServer, make_namespace: Callable[[], str]) -> str:
    """The address of a release with a Deployment and a hook that stays."""
    templates = {"web.yaml": deployment_template(), "hook.yaml": hook_template("post-install", fate="''")}
    chart = server.upload(build_chart("logs", templates=templates)).json()["id"]
    namespace = make_namespace()
    made = server.create(chart_id=chart, namespace=namespace, name="web", version="0.1.0", values={})
    assert made.status_code == 201, made.text
    assert server.wait_until_final(namespace, "web")["status"] == "DEPLOYED"
    return f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/web"


@pytest.fixture(scope="module")
def pod(server: RunningServer, path: str) -> str:
    """The name of the Deployment's one pod, which runs."""

    def running() -> str | None:
        [web] = server.send("GET", f"{path}/resources").json()["objects"]
        pods = [pod for replica_set in web["children"] for pod in replica_set["children"]]
        return pods[0]["name"] if pods and pods[0]["health"] == "healthy" else None

    return str(wait_for(running))


@pytest.fixture
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    yield client
    client.close()


def read(server: RunningServer, path: str) -> dict[str, Any]:
    answer = server.send("GET", path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_last_lines_of_a_container_are_shown_as_json_and_as_text(server: RunningServer, path: str, pod: str):
    found = read(server, f"{path}/logs?pod={pod}")
    assert (found["pod"], found["container"], found["previous"], found["cut"]) == (pod, "main", False, False)
    assert len(found["lines"]) == 3
    assert found["lines"][-1].endswith(LAST)
    one = read(server, f"{path}/logs?pod={pod}&container=main&tail=1")
    assert one["lines"] == found["lines"][-1:]
    text = server.send("GET", f"{path}/logs?pod={pod}", headers={"Accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text.splitlines() == found["lines"]


def test_a_pod_tells_its_containers_and_events(server: RunningServer, path: str, pod: str):
    found = read(server, f"{path}/pod?pod={pod}")
    assert (found["name"], found["phase"], found["problem"]) == (pod, "Running", "")
    [container] = found["containers"]
    assert (container["name"], container["state"], container["started"]) == ("main", "running", True)
    assert "Scheduled" in [one["reason"] for one in found["events"]]


def test_the_pods_of_hooks_are_the_releases_too(server: RunningServer, path: str, api: Client):
    namespace = path.split("/")[6]
    pods = [one.metadata.name for one in api.list(Pod, namespace=namespace, labels={"job-name": "web-hook"})]  # type: ignore[union-attr]
    assert read(server, f"{path}/logs?pod={pods[0]}")["lines"][-1].endswith(LAST)


def test_pods_that_are_none_of_the_release_are_not_shown(server: RunningServer, path: str, api: Client):
    namespace = path.split("/")[6]
    spec = {"containers": [{"name": "main", "image": "example.invalid/x:1"}]}
    for name in ("stranger", "web-web"):
        labels = {"app": "web-web"}
        api.create(Pod.from_dict({"metadata": {"name": name, "labels": labels}, "spec": spec}), namespace=namespace)  # type: ignore[call-overload]
        for part in ("pod", "logs"):
            answer = server.send("GET", f"{path}/{part}?pod={name}")
            assert_error(answer, 404, "CCE.01404001", f"pod '{name}' in namespace '{namespace}' is none of release")


def test_a_hook_that_names_an_object_of_others_does_not_make_its_pods_ones_own(
    server: RunningServer, path: str, pod: str, make_namespace: Callable[[], str], api: Client
):
    victim = path.split("/")[6]
    spec = {"containers": [{"name": "main", "image": "example.invalid/x:1"}]}
    api.create(Pod.from_dict({"metadata": {"name": "nobodys"}, "spec": spec}), namespace=victim)  # type: ignore[call-overload]
    hook = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web-web\n"
    hook += f"  namespace: {victim}\n  annotations: {{helm.sh/hook: test}}\n"
    bare = "apiVersion: v1\nkind: Pod\nmetadata: {name: nobodys, annotations: {helm.sh/hook: test}}\n"
    templates = {"hook.yaml": hook, "bare.yaml": bare, "map.yaml": config_map_template()}
    chart = server.upload(
        build_chart("takes", templates=templates, values={"text": "x"}), parameters='{"skip_lint": true}'
    ).json()["id"]
    for namespace in (victim, make_namespace()):
        made = server.create(chart_id=chart, namespace=namespace, name="thief", version="0.1.0", values={})
        assert made.status_code == 201, made.text
        assert server.wait_until_final(namespace, "thief")["status"] == "DEPLOYED"
        own = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/thief"
        for name in (pod, "nobodys"):
            answer = server.send("GET", f"{own}/logs?pod={name}&pod_namespace={victim}")
            assert_error(
                answer, 404, "CCE.01404001", f"pod '{name}' in namespace '{victim}' is none of release 'thief'"
            )


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("pod=gone", 404, "is none of release 'web', or is gone"),
        ("pod={pod}&container=side", 404, "has no container 'side'; it has main"),
        ("pod={pod}&container=../../x", 404, "has no container"),
        ("pod={pod}&tail=0", 400, "tail"),
        ("pod={pod}&tail=1001", 400, "tail"),
        ("pod=..%2Fsecrets", 400, "is not a valid Kubernetes object name"),
        ("pod={pod}&pod_namespace=a%2Fb", 400, "is not a valid Kubernetes object name"),
        ("pod={pod}&pod_namespace=kube-system", 404, "is none of release"),
        ("", 400, "pod"),
    ],
)
def test_what_there_is_no_log_of_is_said(
    *, server: RunningServer, path: str, pod: str, query: str, status: int, said: str
):
    answer = server.send("GET", f"{path}/logs?{query.format(pod=pod)}")
    assert answer.status_code == status, answer.text
    assert said in answer.text


def test_logs_take_a_right_of_their_own_and_are_noted(server: RunningServer, path: str, pod: str):
    viewer = add_person(server, "readonly", project_id=server.project_id)
    answer = viewer.server.send("GET", f"{path}/logs?pod={pod}")
    assert_error(answer, 403, "CCE.01403001", "lacks the permission pilothouse:logs:read")
    assert viewer.server.send("GET", f"{path}/pod?pod={pod}").status_code == 200
    read(server, f"{path}/logs?pod={pod}")
    namespace = path.split("/")[6]
    query = f"/api/v1/audit?action=pilothouse:logs:read&target={server.cluster_id}/{namespace}/web&outcome=done"
    wait_for(lambda: [row["detail"] for row in server.send("GET", query).json()] == ["logs"])

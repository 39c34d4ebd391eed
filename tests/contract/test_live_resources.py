"""``GET R/resources``: the live objects of a release as a tree, on the real cluster."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.batch_v1 import JobSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import ObjectMeta, OwnerReference
from lightkube.resources.batch_v1 import CronJob, Job
from lightkube.resources.core_v1 import ConfigMap

from tests.support.charts import build_chart
from tests.support.servers import RunningServer, wait_for
from tests.support.users import add_person
from tests.support.wire import assert_error
from tests.support.workloads import deployment_template
from tools.localcluster.cluster import RunningCluster

MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-map"}
data: {text: {{ .Values.text | quote }}}
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-secret"}
stringData: {password: {{ .Values.password | quote }}}
"""
JOB = """\
apiVersion: batch/v1
kind: Job
metadata: {name: "{{ .Release.Name }}-job"}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {pilothouse.dev/simulate: "{{ .Values.fate }}"}}
    spec: {restartPolicy: Never, containers: [{name: main, image: "example.invalid/job:{{ .Values.password }}"}]}
"""
CRON = """\
apiVersion: batch/v1
kind: CronJob
metadata: {name: "{{ .Release.Name }}-cron"}
spec:
  schedule: "0 0 1 1 *"
  jobTemplate:
    spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: "example.invalid/cron:1"}]}}}
"""
TEMPLATES = {
    "map.yaml": MAP,
    "secret.yaml": SECRET,
    "web.yaml": deployment_template(replicas=2),
    "pending.yaml": deployment_template("pending", selector="{nowhere: 'true'}"),
    "job.yaml": JOB,
    "cron.yaml": CRON,
}


@pytest.fixture(scope="module")
def path(server: RunningServer, make_namespace: Callable[[], str]) -> str:
    """The address of a release of many kinds, whose Job and one of whose Deployments do not get well."""
    namespace = make_namespace()
    values = {"text": "x", "password": "long-enough", "fate": "fail"}
    chart = server.upload(build_chart("tree", templates=TEMPLATES, values=values)).json()["id"]
    made = server.create(chart_id=chart, namespace=namespace, name="web", version="0.1.0", values={})
    assert made.status_code == 201, made.text
    base = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/web"
    wait_for(lambda: server.send("GET", base).json()["status"] == "deployed")
    return base


@pytest.fixture
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    yield client
    client.close()


def read(server: RunningServer, path: str) -> dict[str, Any]:
    answer = server.send("GET", f"{path}/resources")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{one['kind']}/{one['name']}": one for one in found["objects"]}


def test_the_tree_goes_down_to_pods_with_health_counts_and_images(server: RunningServer, path: str):
    def settled() -> dict[str, Any] | None:
        found = read(server, path)
        words = {name: one["health"] for name, one in by_name(found).items()}
        done = words["Deployment/web-web"] == "healthy" and words["Job/web-job"] == "degraded"
        return found if done and by_name(found)["Deployment/web-pending"]["children"] else None

    found = wait_for(settled, otherwise=lambda: json.dumps(read(server, path))) or {}
    objects = by_name(found)
    assert found["problems"] == []
    assert (found["revision"], found["health"]) == (1, "degraded")
    assert {word: count for word, count in found["summary"].items() if count} == {
        "healthy": 4,
        "progressing": 1,
        "degraded": 1,
    }
    web = objects["Deployment/web-web"]
    assert (web["ready"], web["wanted"], web["images"]) == (2, 2, ["example.invalid/web:1"])
    [replica_set] = web["children"]
    assert (replica_set["kind"], replica_set["ready"], replica_set["health"]) == ("ReplicaSet", 2, "healthy")
    assert [(pod["kind"], pod["ready"], pod["health"]) for pod in replica_set["children"]] == [
        ("Pod", 1, "healthy")
    ] * 2
    pending = objects["Deployment/web-pending"]
    assert (pending["health"], pending["message"]) == ("progressing", "0 of 1 ready")
    [waiting] = pending["children"][0]["children"]
    assert waiting["health"] == "progressing"
    assert waiting["message"]
    job = objects["Job/web-job"]
    assert job["message"].startswith("BackoffLimitExceeded")
    assert [pod["health"] for pod in job["children"]] == ["degraded"]
    assert objects["CronJob/web-cron"]["images"] == ["example.invalid/cron:1"]
    assert objects["ConfigMap/web-map"]["children"] == []


def test_the_command_line_prints_the_tree(server: RunningServer, path: str):
    namespace = path.split("/namespaces/")[1].split("/", maxsplit=1)[0]

    def lines() -> list[str]:
        typed = server.command("get", "resources", "web", "-n", namespace, "--cluster", server.cluster_id)
        assert typed.returncode == 0, typed.stderr
        return typed.stdout.splitlines()

    wait_for(lambda: any("    Pod/web-pending-" in line for line in lines()), otherwise=lambda: str(lines()))
    found = lines()
    assert found[0].split() == ["OBJECT", "READY", "HEALTH", "MESSAGE"]
    [pending] = [line for line in found if line.startswith("Deployment/web-pending ")]
    assert pending.split(maxsplit=3)[1:] == ["0/1", "progressing", "0 of 1 ready"]
    below = found[found.index(pending) + 1 :][:2]
    assert [line.partition("/")[0] for line in below] == ["  ReplicaSet", "    Pod"]


def test_the_jobs_of_a_cron_job_are_below_it(server: RunningServer, path: str, api: Client):
    namespace = path.split("/")[6]
    cron = by_name(read(server, path))["CronJob/web-cron"]
    assert cron["children"] == []
    owner = api.get(CronJob, "web-cron", namespace=namespace)
    assert owner.metadata is not None
    reference = OwnerReference("batch/v1", "CronJob", "web-cron", owner.metadata.uid or "", controller=True)
    spec = PodSpec(restartPolicy="Never", containers=[Container(name="main", image="example.invalid/cron:1")])
    job = Job(
        metadata=ObjectMeta(name="web-cron-1", namespace=namespace, ownerReferences=[reference]),
        spec=JobSpec(template=PodTemplateSpec(spec=spec)),
    )
    api.create(job)

    def below() -> Any:
        return by_name(read(server, path))["CronJob/web-cron"]["children"]

    [made] = wait_for(lambda: [one for one in below() if one["children"]])
    assert (made["kind"], made["name"]) == ("Job", "web-cron-1")
    assert made["children"][0]["kind"] == "Pod"


def test_what_is_gone_is_said_and_not_dropped(server: RunningServer, path: str, api: Client):
    api.delete(ConfigMap, "web-map", namespace=path.split("/")[6])
    found = read(server, path)
    gone = by_name(found)["ConfigMap/web-map"]
    assert (gone["health"], gone["message"]) == ("missing", "not found")
    assert found["summary"]["missing"] == 1


def test_a_reader_without_the_right_sees_no_values_in_texts(server: RunningServer, path: str):
    assert by_name(read(server, path))["Job/web-job"]["images"] == ["example.invalid/job:long-enough"]
    reader = add_person(server, "CCE ReadOnlyAccess").server
    hidden = by_name(read(reader, path))
    assert hidden["Job/web-job"]["images"] == ["example.invalid/job:***"]
    assert "long-enough" not in json.dumps(hidden)


def test_reading_it_with_the_right_is_audited(server: RunningServer, path: str):
    read(server, path)

    def noted() -> bool:
        rows = server.send("GET", "/api/v1/audit?limit=50").json()
        return any(row["action"] == "pilothouse:values:read" and row["detail"] == "resources" for row in rows)

    assert wait_for(noted)


def test_a_release_that_is_not_there_has_no_tree(server: RunningServer, path: str):
    answer = server.send("GET", f"{path}x/resources")
    assert "release 'webx' does not exist" in assert_error(answer, 404, "CCE.01404001")

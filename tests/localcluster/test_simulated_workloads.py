"""What the simulated node does with pods, as Kubernetes' own controllers, Helm and a client see it."""

import base64
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lightkube import ApiError, Client
from lightkube.models.core_v1 import PodStatus
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.batch_v1 import Job
from lightkube.resources.certificates_v1 import CertificateSigningRequest
from lightkube.resources.core_v1 import Node, Pod

from tools.localcluster.cluster import RunningCluster

pytestmark = pytest.mark.xdist_group("localcluster-workloads")
CONTAINER = {"name": "main", "image": "example.invalid/nothing:1"}


def pod(
    name: str, *, simulate: str | None = None, restart: str = "Always", delay: str | None = None, **spec: object
) -> Any:
    annotations = {"pilothouse.dev/simulate": simulate, "pilothouse.dev/simulate-delay": delay}
    metadata = {"name": name, "annotations": {key: value for key, value in annotations.items() if value}}
    return Pod.from_dict({"metadata": metadata, "spec": {"restartPolicy": restart, "containers": [CONTAINER], **spec}})


def job(name: str, *, simulate: str | None = None) -> Any:
    template = pod(name, simulate=simulate, restart="Never").to_dict()
    return Job.from_dict({"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}})


def eventually(read: Callable[[], object], wanted: object, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while (found := read()) != wanted:
        assert time.monotonic() < deadline, f"still {found}, not {wanted}"
        time.sleep(0.05)


def status(client: Client, name: str) -> PodStatus:
    found = client.get(Pod, name).status
    assert found is not None
    return found


def phase(client: Client, name: str) -> Callable[[], object]:
    return lambda: status(client, name).phase


def ready(client: Client, name: str) -> str | None:
    conditions = status(client, name).conditions or []
    return {one.type: one.status for one in conditions}.get("Ready")


def test_the_node_has_room_for_thousands_of_pods(client):
    (node,) = client.list(Node)
    assert int(node.status.allocatable["pods"].removesuffix("k")) * 1000 >= 10_000


def test_pods_become_running_and_jobs_complete(client):
    deployment = {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [CONTAINER]}},
        },
    }
    client.create(Deployment.from_dict(deployment), namespace="default")
    client.create(job("once"), namespace="default")
    eventually(lambda: client.get(Deployment, "web").status.readyReplicas, 3)
    eventually(lambda: client.get(Job, "once").status.succeeded, 1)


def test_a_bare_pod_that_is_not_restarted_succeeds(client):
    client.create(pod("bare", restart="Never"), namespace="default")
    eventually(phase(client, "bare"), "Succeeded")


def test_init_containers_and_sidecars_are_played_too(client):
    sidecar = {"name": "beside", "image": "x", "restartPolicy": "Always"}
    client.create(pod("parts", initContainers=[{"name": "before", "image": "x"}, sidecar]), namespace="default")
    eventually(phase(client, "parts"), "Running")
    states = {one.name: one.state for one in client.get(Pod, "parts").status.initContainerStatuses}
    assert states["before"].terminated.exitCode == 0
    assert states["beside"].running is not None


def test_pod_logs_can_be_read(client):
    client.create(pod("talks"), namespace="default")
    eventually(phase(client, "talks"), "Running")
    lines = list(client.log("talks"))
    assert len(lines) == 3
    assert "started" in lines[0]
    assert list(client.log("talks", container="main", tail_lines=1)) == lines[-1:]


def test_a_failing_job_fails(client):
    client.create(job("broken", simulate="fail"), namespace="default")
    eventually(lambda: client.get(Job, "broken").status.failed, 1)
    reasons = [one.reason for one in client.get(Job, "broken").status.conditions if one.type == "Failed"]
    assert reasons == ["BackoffLimitExceeded"]


def test_a_failing_pod_that_is_restarted_stays_in_its_loop(client):
    client.create(pod("crashing", simulate="fail"), namespace="default")
    eventually(phase(client, "crashing"), "Running")
    (container,) = client.get(Pod, "crashing").status.containerStatuses
    assert container.state.waiting.reason == "CrashLoopBackOff"
    assert ready(client, "crashing") == "False"


def test_a_pod_can_stay_unready(client):
    client.create(pod("asleep", simulate="never-ready"), namespace="default")
    client.create(job("asleep-job", simulate="never-ready"), namespace="default")
    eventually(phase(client, "asleep"), "Running")
    eventually(lambda: client.get(Job, "asleep-job").status.active, 1)
    time.sleep(1)
    assert ready(client, "asleep") == "False"
    assert client.get(Job, "asleep-job").status.succeeded is None


def test_a_pod_can_take_its_time(client):
    client.create(pod("late", simulate="slow", delay="2s"), namespace="default")
    time.sleep(1)
    assert phase(client, "late")() == "Pending"
    eventually(lambda: ready(client, "late"), "True")


def test_a_pod_that_waits_can_be_deleted(client):
    client.create(pod("unwanted", simulate="slow", delay="1h"), namespace="default")
    eventually(lambda: client.get(Pod, "unwanted").spec.nodeName is not None, True)
    client.delete(Pod, "unwanted")

    def gone():
        try:
            client.get(Pod, "unwanted")
        except ApiError as error:
            return error.status.code == 404
        return False

    eventually(gone, True)


def test_a_client_certificate_can_be_had_by_the_usual_way(client):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    spec = {
        "request": base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"],
    }
    made = client.create(CertificateSigningRequest.from_dict({"metadata": {"name": "somebody"}, "spec": spec}))
    approval = {"type": "Approved", "status": "True", "reason": "Test"}
    patch = {"status": {"conditions": [approval]}}
    client.patch(CertificateSigningRequest.Approval, made.metadata.name, patch)
    eventually(lambda: bool(client.get(CertificateSigningRequest, "somebody").status.certificate), True)


@pytest.fixture
def chart(tmp_path):
    """Return a release with a hook Job before and a Deployment to wait for."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: small\nversion: 1.0.0\n")
    (tmp_path / "templates" / "all.yaml").write_text("""
apiVersion: batch/v1
kind: Job
metadata: {name: "{{ .Release.Name }}-before", annotations: {helm.sh/hook: pre-install}}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {pilothouse.dev/simulate: "{{ .Values.hook }}"}}
    spec: {restartPolicy: Never, containers: [{name: main, image: x}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec: {containers: [{name: main, image: x}]}
""")
    return tmp_path


def helm(running: RunningCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(running.helm), "--kubeconfig", str(running.kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_helm_installs_with_a_hook_and_waits(running, chart):
    done = helm(running, "install", "good", str(chart), "--wait", "--timeout", "30s")
    assert done.returncode == 0, done.stderr
    assert "STATUS: deployed" in done.stdout


def test_helm_sees_a_hook_fail(running, chart):
    done = helm(running, "install", "bad", str(chart), "--set", "hook=fail", "--wait", "--timeout", "30s")
    assert done.returncode == 1
    assert "bad-before" in done.stderr


def test_helm_knows_the_version_of_kubernetes(running, tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text('apiVersion: v2\nname: new\nversion: 1.0.0\nkubeVersion: ">=1.36.3"\n')
    assert helm(running, "install", "new", str(tmp_path), "--dry-run=server").returncode == 0

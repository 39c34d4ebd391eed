"""Templates of hooks and Deployments whose fate the simulated nodes are told, and pods of which a kubelet says more."""

from datetime import UTC, datetime
from typing import Any

from lightkube import Client
from lightkube.models.core_v1 import ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Event, Pod
from lightkube.types import PatchType

from tests.support.servers import wait_for


def hook_template(
    event: str, *, fate: str, policy: str = "before-hook-creation", kind: str = "Job", name: str = "hook"
) -> str:
    """Return a hook ``<release>-<name>``: a Job, or a bare Pod, that does what ``pilothouse.dev/simulate`` says."""
    pod = "spec: {restartPolicy: Never, containers: [{name: main, image: example.invalid/hook:1}]}"
    simulate = f"pilothouse.dev/simulate: {fate}"
    annotations = f"helm.sh/hook: '{event}', helm.sh/hook-delete-policy: '{policy}'"
    if kind == "Pod":
        return f"""\
apiVersion: v1
kind: Pod
metadata: {{name: "{{{{ .Release.Name }}}}-{name}", annotations: {{{annotations}, {simulate}}}}}
{pod}
"""
    return f"""\
apiVersion: batch/v1
kind: Job
metadata: {{name: "{{{{ .Release.Name }}}}-{name}", annotations: {{{annotations}}}}}
spec:
  backoffLimit: 0
  template:
    metadata: {{annotations: {{{simulate}}}}}
    {pod}
"""


def deployment_template(name: str = "web", *, fate: str = "''", replicas: int = 1, selector: str = "{}") -> str:
    """Return a Deployment ``<release>-<name>``; ``selector`` is the pods' node selector."""
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: "{{{{ .Release.Name }}}}-{name}"}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: "{{{{ .Release.Name }}}}-{name}"}}}}
  template:
    metadata: {{labels: {{app: "{{{{ .Release.Name }}}}-{name}"}}, annotations: {{pilothouse.dev/simulate: {fate}}}}}
    spec: {{nodeSelector: {selector}, containers: [{{name: main, image: "example.invalid/web:1"}}]}}
"""


def cannot_pull(direct: Client, namespace: str, deployment: str, *, said: str) -> None:
    """Leave a pod of the Deployment as a kubelet does that cannot pull an image."""

    def running() -> list[str]:
        pods = [one.to_dict() for one in direct.list(Pod, namespace=namespace)]
        return [
            pod["metadata"]["name"]
            for pod in pods
            if pod["metadata"]["name"].startswith(deployment) and pod["status"].get("containerStatuses")
        ]

    name = wait_for(running)[0]
    patch_pod(
        direct, namespace, name, phase="Pending", state={"waiting": {"reason": "ImagePullBackOff", "message": said}}
    )
    event = Event(
        metadata=ObjectMeta(name=f"{name}.pull", namespace=namespace),
        involvedObject=ObjectReference(kind="Pod", apiVersion="v1", name=name, namespace=namespace),
        reason="Failed",
        message=said,
        type="Warning",
        lastTimestamp=datetime.now(UTC),
    )
    direct.create(event)


def patch_pod(direct: Client, namespace: str, name: str, *, phase: str, state: dict[str, Any]) -> None:
    """Write the status of a pod with one container, as its kubelet does."""
    container = {"name": "main", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    status = {"status": {"phase": phase, "containerStatuses": [container]}}
    direct.patch(Pod.Status, name, status, namespace=namespace, patch_type=PatchType.MERGE)

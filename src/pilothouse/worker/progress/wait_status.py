"""Status of an object that Helm waits for: how much of it is ready, and which pod is not."""

from typing import Final

from pilothouse.engine.protocol import ProgressEvent
from pilothouse.errors import PilothouseError
from pilothouse.kubernetes.client import WORKLOADS, ClusterClient
from pilothouse.kubernetes.readiness import is_healthy, pod_problem, progress
from pilothouse.kubernetes.resources import manifest_objects

_LARGEST: Final = 4 * 1024 * 1024
_MOST_PODS: Final = 50


class Waits:
    """Read one cluster; what cannot be read is left out."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client

    async def look(self, event: ProgressEvent) -> str:
        """Return what the event's object lacks, such as ``1 of 3 ready, pod web-x: Unschedulable: …``, or ''."""
        kind = WORKLOADS.get(event.object_kind)
        if kind is None:
            return ""
        namespace, name = event.object_namespace, event.object_name
        try:
            live = await self._client.find_object(kind, namespace=namespace, name=name, largest=_LARGEST)
            if live is None:
                return ""
            if event.object_kind == "Pod":
                return "" if is_healthy(live) else pod_problem(live)
            (obj,) = manifest_objects([live], namespace=namespace)
            pods = (
                await self._client.list_pods(
                    namespace=namespace, labels=dict(obj.selector), limit=_MOST_PODS, largest=_LARGEST
                )
                if obj.selector
                else []
            )
        except (PilothouseError, ValueError):
            return ""
        reasons = [words] if (words := progress(live)) else []
        ailing = min((pod for pod in pods if not is_healthy(pod)), key=_name, default=None)
        if ailing is not None:
            reasons.append(f"pod {_name(ailing)}: {pod_problem(ailing)}")
        return ", ".join(reasons)


def _name(pod: dict[str, object]) -> str:
    metadata = pod.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) else ""

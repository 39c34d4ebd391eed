"""What is there after a step: stored release and live objects, without what differs between any two installs."""

import base64
import gzip
import json
from typing import Any

import httpx2
import yaml

#: Every kind that a generated chart makes, by its path below a namespace; custom resources come with their group.
_PATHS = (
    "api/v1/namespaces/{namespace}/configmaps",
    "api/v1/namespaces/{namespace}/secrets",
    "api/v1/namespaces/{namespace}/services",
    "api/v1/namespaces/{namespace}/serviceaccounts",
    "apis/apps/v1/namespaces/{namespace}/deployments",
    "apis/batch/v1/namespaces/{namespace}/jobs",
    "apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "apis/{group}/v1/namespaces/{namespace}/things",
)
#: Of a kind that charts define themselves: served from the first of them on that does.
_GADGETS = "apis/{group}/v1/namespaces/{namespace}/gadgets"
_RELEASES = "api/v1/namespaces/{namespace}/secrets?labelSelector=owner%3Dhelm%2Cname%3D{name}"
#: What the cluster or the moment decides.
_OF_THE_CLUSTER = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "namespace",
)
_MADE_BY_KUBERNETES = frozenset({"kube-root-ca.crt", "default"})


class Namespace:
    """One namespace, read with the rights of an administrator."""

    def __init__(self, http: httpx2.Client, name: str, *, group: str) -> None:
        self._http = http
        self.name = name
        self._group = group

    def objects(self, *, gadgets: bool = False) -> dict[str, Any]:
        """Return the live objects by kind and name, but for Helm's own records; of ``gadgets`` if they are served."""
        found = {}
        for path in [*_PATHS, *([_GADGETS] if gadgets else [])]:
            listed = self._get(path.format(namespace=self.name, group=self._group))
            for item in listed["items"]:
                name = item["metadata"]["name"]
                if name not in _MADE_BY_KUBERNETES and item.get("type") != "helm.sh/release.v1":
                    found[f"{listed['kind'].removesuffix('List')}/{name}"] = self._normal(item)
        return found

    def revisions(self, release: str) -> list[dict[str, Any]]:
        """Return the stored revisions, oldest first."""
        listed = self._get(_RELEASES.format(namespace=self.name, name=release))
        decoded = [
            json.loads(gzip.decompress(base64.b64decode(base64.b64decode(item["data"]["release"]))))
            for item in listed["items"]
        ]
        return [self._stored(one) for one in sorted(decoded, key=lambda one: one["version"])]

    def _get(self, path: str) -> Any:
        answer = self._http.get(f"/{path}")
        answer.raise_for_status()
        return answer.json()

    def _stored(self, release: dict[str, Any]) -> dict[str, Any]:
        """All of it but times, labels (ours name the operation) and the namespace."""
        info = {name: release["info"].get(name) for name in ("status", "description", "notes")}
        hooks = [
            {
                **hook,
                "manifest": self._documents(hook.get("manifest") or ""),
                "last_run": (hook.get("last_run") or {}).get("phase"),
            }
            for hook in release.get("hooks") or []
        ]
        return {
            **{name: release.get(name) for name in ("name", "version", "config", "apply_method")},
            "info": {**info, "description": str(info["description"]).replace(self.name, "NAMESPACE")},
            "chart": release["chart"]["metadata"],
            "chart_values": release["chart"].get("values"),
            "templates": sorted(one["name"] for one in release["chart"].get("templates") or []),
            "manifest": self._documents(release.get("manifest") or ""),
            "hooks": sorted(hooks, key=lambda one: (one["name"], one["path"])),
        }

    def _documents(self, manifest: str) -> list[Any]:
        return [one for one in yaml.safe_load_all(manifest.replace(self.name, "NAMESPACE")) if one]

    def _normal(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the object without what the cluster adds, and with the programs that own fields of it."""
        metadata = {name: value for name, value in item["metadata"].items() if name not in _OF_THE_CLUSTER}
        managers = sorted(
            {(one["manager"], one["operation"]) for one in item["metadata"].get("managedFields", [])}
            - {("kube-controller-manager", "Update"), ("kwok", "Update"), ("kubectl-rollout", "Update")}
        )
        metadata.pop("finalizers", None)
        labels = {name: value for name, value in metadata.pop("labels", {}).items() if "controller-uid" not in name}
        metadata["labels"] = labels
        spec = dict(item.get("spec") or {})
        for name in ("clusterIP", "clusterIPs"):
            spec.pop(name, None)
        normal = {**item, "metadata": metadata, "spec": _without_uids(spec), "managers": managers}
        normal.pop("status", None)
        text = json.dumps(normal).replace(self.name, "NAMESPACE")
        return dict(json.loads(text))


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the places at which two trees differ, with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return [text for key in keys for text in differences(one.get(key), other.get(key), f"{path}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [text for index, pair in pairs for text in differences(*pair, f"{path}[{index}]")]
    return [] if one == other else [f"{path}: {one!r} by the API, {other!r} by helm"]


def _without_uids(spec: dict[str, Any]) -> Any:
    """Return a Job's spec without the labels and selectors that hold its own uid."""
    spec = json.loads(json.dumps(spec))
    if "podReplacementPolicy" in spec or "completionMode" in spec:
        spec.pop("selector", None)
        spec.get("template", {}).get("metadata", {}).pop("labels", None)
    return spec

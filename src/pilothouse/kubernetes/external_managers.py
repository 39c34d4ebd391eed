"""Programs that keep an object in their desired state, detected by labels, annotations and owner references.

Flux' helm-controller labels every object of its releases with its HelmRelease, its kustomize-controller likewise
(fluxcd/helm-controller pull request 238); Argo CD writes the application into an annotation (Argo CD, "Resource
Tracking"); an operator owns objects by a controller reference (Kubernetes, "Owners and Dependents").
"""

import re
from dataclasses import dataclass
from typing import Any

_TRACKING = "argocd.argoproj.io/tracking-id"
_SKIPPED = "argocd.argoproj.io/skip-reconcile"
_FLUX = {"helm.toolkit.fluxcd.io": "HelmRelease", "kustomize.toolkit.fluxcd.io": "Kustomization"}
_MARKS = {
    name: re.compile(rf"^[ ]+['\"]?{re.escape(name)}['\"]?:[ ]*['\"]?([^\s'\"]+)", re.MULTILINE)
    for name in (*(f"{group}/{part}" for group in _FLUX for part in ("name", "namespace")), _TRACKING)
}


@dataclass(frozen=True)
class Manager:
    """The object that configures a manager; ``group`` is empty if it cannot be looked up."""

    program: str
    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        location = f" in namespace {self.namespace!r}" if self.namespace else ""
        return f"{self.program} {self.kind} {self.name!r}{location}".strip()


def find_manager(metadata: dict[str, Any]) -> Manager | None:
    """Return the controller that the object's metadata names as its manager, other than Helm; None if there is none."""
    labels, annotations = _texts(metadata.get("labels")), _texts(metadata.get("annotations"))
    for group, kind in _FLUX.items():
        if name := labels.get(f"{group}/name"):
            return Manager("Flux", group, kind, labels.get(f"{group}/namespace", ""), name)
    if application := annotations.get(_TRACKING, "").partition(":")[0]:
        # an application outside of Argo CD's own namespace is written as namespace_name
        namespace, _, name = application.rpartition("_")
        return Manager("Argo CD", "argoproj.io", "Application", namespace or "argocd", name)
    for owner in metadata.get("ownerReferences") or ():
        if isinstance(owner, dict) and owner.get("controller") is True:
            namespace = str(metadata.get("namespace") or "")
            return Manager("", "", str(owner.get("kind")), namespace, str(owner.get("name")))
    return None


def find_mark(manifest: str) -> Manager | None:
    """Return the manager that the first marks in a manifest name, found without parsing it; None if there are none."""
    found = {name: text[1] for name, mark in _MARKS.items() if name in manifest and (text := mark.search(manifest))}
    return find_manager({"labels": found, "annotations": found}) if found else None


def is_suspended(managing: dict[str, Any]) -> bool:
    """Return True if the manager is suspended."""
    spec = managing.get("spec")
    annotations = _texts((managing.get("metadata") or {}).get("annotations"))
    return (isinstance(spec, dict) and spec.get("suspend") is True) or annotations.get(_SKIPPED) == "true"


def _texts(value: object) -> dict[str, str]:
    return {key: text for key, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else {}

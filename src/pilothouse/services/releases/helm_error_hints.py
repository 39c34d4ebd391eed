"""Helm's errors with hints for people: what to do, or the owner of the object in the way."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from pilothouse.engine.helm_errors import SCHEMA_ERROR
from pilothouse.engine.protocol import ValuesLayer
from pilothouse.errors import HelmError, PilothouseError
from pilothouse.kubernetes.capabilities import Capabilities
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.external_managers import find_manager
from pilothouse.services.releases.layer_lines import locate_in_layers
from pilothouse.services.releases.names import is_name, is_namespace

SHRINK_HINT = (
    "exclude files that no template needs (.helmignore), move large ones to a subchart or into the "
    "images, or split the chart"
)
KINDS_GONE_HINT = (
    "Helm cannot compare with it: rewrite its record with Helm's plugin mapkubeapis, or delete and recreate the release"
)

_LARGEST_OBJECT = 4 * 1024 * 1024
_CLASH = re.compile(
    r'(?<![A-Za-z0-9])(?P<kind>[A-Za-z0-9]++) "(?P<name>[^"]+)"'
    r' in namespace "(?P<namespace>[^"]*)" exists and cannot be imported'
)
_RECORD_TOO_LARGE = re.compile(r'Secret "sh\.helm\.release\.[^"]*" is invalid: data: Too long')
_OLD_MANIFEST = "unable to build kubernetes objects from current release manifest"


async def explain(
    error: HelmError, *, client: ClusterClient, capabilities: Capabilities, layers: Sequence[ValuesLayer] = ()
) -> str:
    """Return Helm's text with hints; may read one object from the cluster. ``layers`` are those of the request."""
    text = str(error)
    if error.kind == SCHEMA_ERROR:
        return await asyncio.to_thread(locate_in_layers, text, layers)
    if _RECORD_TOO_LARGE.search(text):
        return f"the release does not fit into its Helm Secret; {SHRINK_HINT}; Helm says: {text}"
    if _OLD_MANIFEST in text:
        return f"the current release has kinds that are no longer served; {KINDS_GONE_HINT}; Helm says: {text}"
    clash = _CLASH.search(text) if error.kind == "HelmOwnershipError" else None
    kind = capabilities.kinds.find_known(clash["kind"]) if clash is not None else None
    if clash is None or kind is None:
        return text
    try:
        live = await client.find_object(
            kind, namespace=clash["namespace"] or "", name=clash["name"], largest=_LARGEST_OBJECT
        )
    except PilothouseError:
        return text
    return f"{text}; {await describe_owner(live, client=client)}" if live is not None else text


def is_owned_by(live: dict[str, Any], *, name: str, namespace: str) -> bool:
    """Return True if Helm would accept the object as the release's (``pkg/action/validate.go``, ``checkOwnership``)."""
    metadata = live.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return (
        labels.get("app.kubernetes.io/managed-by") == "Helm"
        and annotations.get("meta.helm.sh/release-name") == name
        and annotations.get("meta.helm.sh/release-namespace") == namespace
    )


async def describe_owner(live: dict[str, Any], *, client: ClusterClient) -> str:
    """Describe the object's owner from its metadata and what to do; checks whether that release exists."""
    metadata = live.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    manager, release = find_manager(metadata), annotations.get("meta.helm.sh/release-name")
    if manager is not None:
        return f"it is managed by {manager}: remove it there, or use other names"
    if release:
        namespace = annotations.get("meta.helm.sh/release-namespace")
        if await _is_gone(client, name=str(release), namespace=str(namespace)):
            return (
                f"it belongs to release {release!r} in namespace {namespace!r}, which is gone: to take it over, set "
                "its annotations meta.helm.sh/release-name and meta.helm.sh/release-namespace to those of this "
                "release; or delete it"
            )
        return f"it belongs to release {release!r} in namespace {namespace!r}: uninstall that, or use other names"
    return "it belongs to no release: remove it, or give it Helm's label and annotations to have it adopted"


async def _is_gone(client: ClusterClient, *, name: str, namespace: str) -> bool:
    """Return True if the release has no record any more; False if that cannot be determined."""
    if not (is_name(name) and is_namespace(namespace)):
        return False
    try:
        return not await client.list_release_labels(namespace=namespace, name=name)
    except PilothouseError:
        return False

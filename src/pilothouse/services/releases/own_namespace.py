"""The Namespace that a release is in, if it is one of the release's objects.

An update without it would delete it, and with it the release's own record and everything else in it.
"""

import asyncio
from collections.abc import Iterable

from pilothouse.chart_archive.documents import read_objects
from pilothouse.engine.inspection import RenderedObject
from pilothouse.errors import InvalidChart
from pilothouse.kubernetes.helm_secrets import StoredRelease

_LARGEST_MANIFEST = 32 * 1024 * 1024


async def own_namespace(revisions: Iterable[StoredRelease]) -> bool:
    """Return True if one of the revisions contains it without asking to keep it."""
    for stored in revisions:
        if "Namespace" not in stored.manifest:  # nearly every one
            continue
        try:
            documents = await asyncio.to_thread(
                read_objects, stored.manifest.encode(), file="manifest", max_bytes=_LARGEST_MANIFEST
            )
        except (InvalidChart, UnicodeEncodeError):
            continue  # the engine looks as well
        if any(_is_own(document, stored.namespace) for document in documents):
            return True
    return False


def _is_own(document: dict[str, object], namespace: str) -> bool:
    metadata = document.get("metadata")
    if document.get("kind") != "Namespace" or not isinstance(metadata, dict) or metadata.get("name") != namespace:
        return False
    annotations = metadata.get("annotations")
    return not (isinstance(annotations, dict) and annotations.get("helm.sh/resource-policy") == "keep")


def holds_namespace(objects: Iterable[RenderedObject], namespace: str) -> bool:
    """Return True if that Namespace is one of the objects, and not a hook."""
    return any((obj.api_version, obj.kind, obj.name, obj.hook) == ("v1", "Namespace", namespace, "") for obj in objects)


def describe_dropped(namespace: str) -> str:
    """Describe the effect of such an update, and the alternatives."""
    return (
        f"it lacks Namespace {namespace!r}, which is the release's own: with it, all that is in it would be deleted, "
        "the release's record and other releases included; keep it in the chart, or give it the annotation "
        "helm.sh/resource-policy: keep first, or send the header X-Pilothouse-Remove-Namespace: true"
    )

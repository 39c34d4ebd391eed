"""Objects of a revision's manifest: identity, ownership, and removal."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import ClusterDenied, InvalidChart, InvalidRequest
from pilothouse.kubernetes.client import ObjectKind
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.resources import ManifestObject, Object, manifest_parts
from pilothouse.services.releases.helm_error_hints import is_owned_by
from pilothouse.worker.attempt import Attempt

log = structlog.get_logger(__name__)

_LARGEST_OBJECT = 4 * 1024 * 1024
_LARGEST_MANIFEST = 32 * 1024 * 1024
_KEEP = "keep"
#: What takes objects of others along when it is deleted.
_WITH_CONTENTS: Final = {
    "CustomResourceDefinition": "all objects of its kind would be deleted with it",
    "Namespace": "all that is in it would be deleted with it",
}
_MANAGED_BY = {"app.kubernetes.io/managed-by": "Helm"}


async def read_parts(stored: StoredRelease) -> Sequence[tuple[ManifestObject, Object]]:
    """Return the objects of the revision's manifest with their documents; none if it cannot be parsed."""
    try:
        documents = await asyncio.to_thread(
            read_objects, stored.manifest.encode(), file="manifest", max_bytes=_LARGEST_MANIFEST
        )
    except (InvalidChart, UnicodeEncodeError) as error:
        log.warning("manifest_unreadable", release=stored.name, revision=stored.revision, cause=str(error))
        return []
    return manifest_parts(documents, namespace=stored.namespace)


async def read_objects_of(stored: StoredRelease) -> Sequence[ManifestObject]:
    """Return the objects of the revision's manifest; none if it cannot be parsed."""
    return [obj for obj, _ in await read_parts(stored)]


def identity(obj: ManifestObject) -> tuple[str, ...]:
    """Return a key that is equal for the same object, in whatever version of its group."""
    group = obj.api_version.rpartition("/")[0]
    return group, obj.kind, obj.namespace, obj.name


async def find_live(attempt: Attempt, obj: ManifestObject, kind: ObjectKind) -> Object | None:
    """Return the object from the cluster."""
    return await attempt.client.find_object(kind, namespace=obj.namespace, name=obj.name, largest=_LARGEST_OBJECT)


async def stand_whole(attempt: Attempt, objects: Sequence[ManifestObject]) -> bool:
    """Return True if every object exists and none is being deleted; False if in doubt."""
    kinds = KindCache(attempt.client)
    for obj in objects:
        try:
            kind = await kinds.find(obj.api_version, obj.kind)
            live = await find_live(attempt, obj, kind) if kind is not None else None
        except (ClusterDenied, InvalidRequest):
            return False  # what may not be seen may be gone
        if live is None or (live.get("metadata") or {}).get("deletionTimestamp"):
            return False
    return True


@dataclass(frozen=True)
class Removable:
    """An object, as it was read, that belongs to the release; it may be removed unless ``why_left`` says why not."""

    obj: ManifestObject
    kind: ObjectKind
    uid: str
    version: str
    created_at: str
    why_left: str = ""


async def find_removable(attempt: Attempt, obj: ManifestObject, kinds: KindCache) -> Removable | None:
    """Return the object if it exists, belongs to the release and need not be kept.

    The Namespace that the release is in is never removable.
    """
    if (obj.kind, obj.name) == ("Namespace", attempt.row.namespace):
        return None
    kind = await kinds.find(obj.api_version, obj.kind)
    live = await find_live(attempt, obj, kind) if kind is not None else None
    if kind is None or live is None or not belongs(live, attempt) or is_kept(live):
        return None
    metadata = live["metadata"]
    created_at = str(metadata.get("creationTimestamp", ""))
    why_left = _WITH_CONTENTS.get(obj.kind, "")
    return Removable(obj, kind, str(metadata["uid"]), str(metadata["resourceVersion"]), created_at, why_left)


async def remove_object(attempt: Attempt, found: Removable) -> bool:
    """Delete the object if it is unchanged since it was read. Return True if the API server accepted the deletion."""
    attempt.check_held()
    obj = found.obj
    removed = await attempt.client.delete_object(
        found.kind, namespace=obj.namespace, name=obj.name, uid=found.uid, resource_version=found.version
    )
    if removed:
        log.info("orphan_removed", operation_id=attempt.row.id, kind=obj.kind, name=obj.name)
    return removed


def belongs(live: Object, attempt: Attempt) -> bool:
    """Check that the object exists and is the release's."""
    name, namespace = attempt.row.release_name, attempt.row.namespace
    return bool((live.get("metadata") or {}).get("uid")) and is_owned_by(live, name=name, namespace=namespace)


def is_kept(live: Object) -> bool:
    """Return True if it outlives its release."""
    annotations = (live.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get("helm.sh/resource-policy", "")).strip().lower() == _KEEP


def as_applied(document: Object, attempt: Attempt, *, resource_version: str = "") -> Object:
    """Return the document as Helm applies it, with its labels; with a resourceVersion, only to that version."""
    metadata: dict[str, Any] = dict(document["metadata"])
    metadata["labels"] = {**(metadata.get("labels") or {}), **_MANAGED_BY}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **_marks(attempt)}
    if resource_version:
        metadata["resourceVersion"] = resource_version
    return {**document, "metadata": metadata}


def _marks(attempt: Attempt) -> dict[str, str]:
    return {
        "meta.helm.sh/release-name": attempt.row.release_name,
        "meta.helm.sh/release-namespace": attempt.row.namespace,
    }

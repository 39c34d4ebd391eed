"""The objects of a revision's manifest: what they are, whether they still belong to the release, how one is removed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import ClusterDenied, InvalidChart, InvalidRequest
from pilothouse.kubernetes.client import ClusterClient, ObjectKind
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.resources import ManifestObject, Object, manifest_parts
from pilothouse.worker.attempt import Attempt

log = structlog.get_logger(__name__)

_LARGEST_OBJECT = 4 * 1024 * 1024
_LARGEST_MANIFEST = 32 * 1024 * 1024
_KEEP = "keep"
_MANAGED_BY = {"app.kubernetes.io/managed-by": "Helm"}


class Kinds:
    """Where the server keeps the kinds of objects; each group is asked for once."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._groups: dict[str, dict[str, ObjectKind]] = {}

    async def find(self, one: ManifestObject) -> ObjectKind | None:
        """The object's kind; None if the server does not have it any more."""
        if one.api_version not in self._groups:
            self._groups[one.api_version] = await self._client.list_kinds(one.api_version)
        return self._groups[one.api_version].get(one.kind)


async def read_parts(stored: StoredRelease) -> Sequence[tuple[ManifestObject, Object]]:
    """The objects of the revision's manifest with their documents; none if it cannot be read."""
    try:
        documents = await asyncio.to_thread(
            read_objects, stored.manifest.encode(), file="manifest", max_bytes=_LARGEST_MANIFEST
        )
    except (InvalidChart, UnicodeEncodeError) as error:
        log.warning("manifest_unreadable", release=stored.name, revision=stored.revision, cause=str(error))
        return []
    return manifest_parts(documents, namespace=stored.namespace)


async def read_objects_of(stored: StoredRelease) -> Sequence[ManifestObject]:
    """The objects of the revision's manifest; none if it cannot be read."""
    return [one for one, _ in await read_parts(stored)]


def identity(one: ManifestObject) -> tuple[str, ...]:
    """What makes two entries the same object, whatever version of its group they are written in."""
    group = one.api_version.rpartition("/")[0]
    return group, one.kind, one.namespace, one.name


async def find_live(attempt: Attempt, one: ManifestObject, kind: ObjectKind) -> Object | None:
    """The object as it is in the cluster."""
    return await attempt.client.find_object(kind, namespace=one.namespace, name=one.name, largest=_LARGEST_OBJECT)


async def stand_whole(attempt: Attempt, objects: Sequence[ManifestObject]) -> bool:
    """Whether every one of the objects is there, and none is being deleted; in doubt, not."""
    kinds = Kinds(attempt.client)
    for one in objects:
        try:
            kind = await kinds.find(one)
            live = await find_live(attempt, one, kind) if kind is not None else None
        except (ClusterDenied, InvalidRequest):
            return False  # what may not be seen may be gone
        if live is None or (live.get("metadata") or {}).get("deletionTimestamp"):
            return False
    return True


@dataclass(frozen=True)
class Removable:
    """An object that belongs to the release and is not to be kept, as it was seen."""

    one: ManifestObject
    kind: ObjectKind
    uid: str
    version: str


async def find_removable(attempt: Attempt, one: ManifestObject, kinds: Kinds) -> Removable | None:
    """The object as it is, if it is there, belongs to the release and may be removed: not what is to be kept.

    Nor the Namespace that the release is in.
    """
    if (one.kind, one.name) == ("Namespace", attempt.row.namespace):
        return None
    kind = await kinds.find(one)
    live = await find_live(attempt, one, kind) if kind is not None else None
    if kind is None or live is None or not belongs(live, attempt) or is_kept(live):
        return None
    return Removable(one, kind, str(live["metadata"]["uid"]), str(live["metadata"]["resourceVersion"]))


async def remove_object(attempt: Attempt, found: Removable) -> bool:
    """Whether it is on its way out; not if it has changed since it was seen, or was gone before."""
    attempt.check_held()
    one = found.one
    removed = await attempt.client.delete_object(
        found.kind, namespace=one.namespace, name=one.name, uid=found.uid, resource_version=found.version
    )
    if removed:
        log.info("orphan_removed", operation_id=attempt.row.id, kind=one.kind, name=one.name)
    return removed


def belongs(live: Object, attempt: Attempt) -> bool:
    """By the marks that Helm sets and checks itself (Helm ``pkg/action/validate.go``)."""
    metadata = live.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return bool(metadata.get("uid")) and (
        _MANAGED_BY.items() <= labels.items() and _marks(attempt).items() <= annotations.items()
    )


def is_kept(live: Object) -> bool:
    """Whether it outlives its release."""
    annotations = (live.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get("helm.sh/resource-policy", "")).strip().lower() == _KEEP


def as_applied(document: Object, attempt: Attempt, *, resource_version: str = "") -> Object:
    """The document as Helm applies it, with its marks; with a resourceVersion, only to the object as it is there."""
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

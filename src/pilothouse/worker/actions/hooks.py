"""Removal of the hook objects of an interrupted attempt, before anything else is done.

Helm records that a hook is started before it creates the hook's objects, so the revision tells which those are. Hook
objects carry no labels of the release. Objects that existed before the attempt, have an owner, are to be kept, or are
CRDs (which Helm never deletes for a hook either) stay, and are reported.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from pilothouse.chart_archive.documents import read_objects
from pilothouse.engine.deadline import boottime
from pilothouse.errors import ClusterDenied, InvalidChart, InvalidRequest
from pilothouse.kubernetes.client import ObjectKind
from pilothouse.kubernetes.helm_secrets import UNINSTALLING, StoredRelease
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.resources import ManifestObject, manifest_objects
from pilothouse.worker.actions.manifests import find_live, is_kept
from pilothouse.worker.attempt import Attempt

log = structlog.get_logger(__name__)

_LARGEST_HOOK = 1024 * 1024
#: A request that a killed child had sent can still take effect that long.
_SETTLE_SECONDS = 1.0
#: Longer than pods have to end, if nothing else is said of them.
_LONGEST_SECONDS = 40.0
_LOOK_SECONDS = 0.2
#: The cluster's clock need not be the worker's.
_CLOCKS = timedelta(seconds=60)


@dataclass
class _Removal:
    """Objects being deleted, by kind and name, and objects that stay, with the reason."""

    ending: list[tuple[ManifestObject, ObjectKind, str]] = field(default_factory=list)
    left: list[tuple[ManifestObject, str]] = field(default_factory=list)
    absent: bool = False


async def remove_hooks(attempt: Attempt, stored: StoredRelease) -> None:
    """Remove the objects of the revision's started hooks and wait until their pods have ended; report it as events."""
    await remove_hook_objects(attempt, stored, stored.begun_hooks(), since=_began(stored))


async def remove_hook_objects(
    attempt: Attempt, stored: StoredRelease, manifests: Sequence[str], *, since: datetime
) -> None:
    """Do the same for these hooks, in the order in which they began; what is older than ``since`` stays."""
    objects = [obj for text in reversed(manifests) for obj in await _objects_of(stored, text)]
    if not objects:
        return
    kinds = KindCache(attempt.client)
    removal = await _request_deletion(attempt, objects, kinds, since)
    if removal.absent:
        await asyncio.sleep(_SETTLE_SECONDS)
        again = await _request_deletion(attempt, objects, kinds, since)
        removal.ending += again.ending
        removal.left = again.left
    stuck = await _await_end(attempt, removal.ending)
    removal.left += [(obj, "still being deleted") for obj in stuck]
    removed = [f"{obj.kind}/{obj.name}" for obj, _, _ in removal.ending if obj not in stuck]
    if removed:
        names = ", ".join(dict.fromkeys(removed))
        log.info("hooks_removed", operation_id=attempt.row.id, objects=names)
        await attempt.record(
            "hooks_removed", f"removed, because the attempt that ran these hooks was interrupted: {names}"
        )
    if removal.left:
        names = ", ".join(f"{obj.kind}/{obj.name} ({why})" for obj, why in removal.left)
        found = [
            {"api_version": obj.api_version, "kind": obj.kind, "namespace": obj.namespace, "name": obj.name, "why": why}
            for obj, why in removal.left
        ]
        await attempt.record("left_behind", f"left behind by hooks: {names}", {"objects": found})


async def _objects_of(stored: StoredRelease, text: str) -> Sequence[ManifestObject]:
    try:
        documents = await asyncio.to_thread(read_objects, text.encode(), file="hook", max_bytes=_LARGEST_HOOK)
    except (InvalidChart, UnicodeEncodeError) as error:
        log.warning("hook_unreadable", release=stored.name, revision=stored.revision, cause=str(error))
        return []
    return manifest_objects(documents, namespace=stored.namespace)


async def _request_deletion(
    attempt: Attempt, objects: Sequence[ManifestObject], kinds: KindCache, since: datetime
) -> _Removal:
    """Request the deletion of each object that the attempt created."""
    removal = _Removal()
    for obj in objects:
        try:
            kind = await kinds.find(obj.api_version, obj.kind)
            live = await find_live(attempt, obj, kind) if kind is not None else None
            if kind is None or live is None:
                removal.absent = True
                continue
            metadata = live["metadata"]
            why = _why_left(live, since)
            if not why:
                attempt.check_held()
                attempt.followed.removed[obj.kind, obj.namespace, obj.name] = live
                await attempt.client.delete_object(
                    kind, namespace=obj.namespace, name=obj.name, uid=str(metadata["uid"]), foreground=True
                )
                removal.ending.append((obj, kind, str(metadata["uid"])))
        except (ClusterDenied, InvalidRequest) as error:
            why = str(error)
        if why:
            removal.left.append((obj, why))
    return removal


def _why_left(live: dict[str, Any], since: datetime) -> str:
    """Return why the object of a hook must not be removed; empty if it may be."""
    metadata = live["metadata"]
    annotations = metadata.get("annotations")
    owner = annotations.get("meta.helm.sh/release-name") if isinstance(annotations, dict) else None
    if live.get("kind") == "CustomResourceDefinition":
        return "a CRD: all objects of its kind would be deleted with it"
    if is_kept(live):
        return "helm.sh/resource-policy: keep"
    if owner:
        return f"it belongs to release {owner!r}"
    if _created(metadata) < since:
        return "it existed before"
    return ""


def _created(metadata: dict[str, Any]) -> datetime:
    made = datetime.fromisoformat(str(metadata.get("creationTimestamp")))
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def _began(stored: StoredRelease) -> datetime:
    """Return when the action on the revision began: by the cluster's clock if that action created the revision."""
    return stored.acted_at - _CLOCKS if stored.status == UNINSTALLING else stored.created_at


async def _await_end(attempt: Attempt, ending: list[tuple[ManifestObject, ObjectKind, str]]) -> list[ManifestObject]:
    """Return what still exists after a while, or after half of the attempt's time."""
    until = boottime() + min(_LONGEST_SECONDS, attempt.seconds / 2)
    left = list(ending)
    while left:
        remaining = []
        for obj, kind, uid in left:
            live = await find_live(attempt, obj, kind)
            if live is not None and live["metadata"].get("uid") == uid:
                remaining.append((obj, kind, uid))
        left = remaining
        if not left or boottime() > until:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return [obj for obj, _, _ in left]

"""What belongs to an action and Helm does not do: orphans removed, history kept short, workloads restarted.

Each may be done again by a later attempt. What the account may not do, or a kind that is no longer served, is told
as an event and does not fail the operation: the revision is deployed.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from pilothouse.archive.documents import read_objects
from pilothouse.cluster.client import SECRETS, ClusterClient, ObjectKind, ReleaseLabels
from pilothouse.cluster.resources import ManifestObject, manifest_objects
from pilothouse.cluster.storage import StoredRelease, supersede
from pilothouse.engine.base import MAX_HISTORY
from pilothouse.errors import ClusterDenied, InvalidChart, InvalidRequest
from pilothouse.worker.attempts import Attempt, Seen, stored_in
from pilothouse.worker.outcomes import Event

log = structlog.get_logger(__name__)

_LARGEST_OBJECT = 4 * 1024 * 1024
_LARGEST_MANIFEST = 32 * 1024 * 1024
_KEEP = "keep"
_RESTARTED = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
#: What ``kubectl rollout restart`` writes.
_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


async def remove_orphans(attempt: Attempt, stored: StoredRelease, seen: Seen) -> tuple[Event, ...]:
    """Nothing is left of the revisions that this one took the place of, but what it has too.

    Those are the failed ones right before it, and the deployed one before them, if there is one. Only objects that
    still say that they belong to this release go, and none that is to be kept. An upgrade would have removed them; an
    install with ``replace`` does not.
    """
    replaced = _replaced(seen, before=stored.revision)
    if not replaced:
        return ()
    kept = {_identity(one) for one in await _objects(stored)}
    orphans: dict[tuple[str, ...], ManifestObject] = {}
    for revision in replaced:
        old = stored_in(await attempt.read(revision.revision))
        if old is not None:
            orphans |= {_identity(one): one for one in await _objects(old) if _identity(one) not in kept}
    removed, failed = [], []
    for one in orphans.values():
        try:
            if await _remove(attempt, one):
                removed.append(f"{one.kind}/{one.name}")
        except (ClusterDenied, InvalidRequest) as error:
            failed.append(f"{one.kind}/{one.name} ({error})")
    return (
        *_told("orphans_removed", "removed, as the new revision lacks it: ", removed),
        *_told("orphans_left", "left behind: ", failed),
    )


async def supersede_older(attempt: Attempt, stored: StoredRelease, seen: Seen) -> None:
    """No revision before this one is deployed any more; an install over a failed upgrade would leave one."""
    for one in seen.revisions:
        if one.status == "deployed" and one.revision < stored.revision:
            secret = await attempt.read(one.revision)
            if secret is not None and await supersede(attempt.client, secret):
                log.info("revision_superseded", operation_id=attempt.row.id, revision=one.revision)


async def prune_history(attempt: Attempt, stored: StoredRelease, seen: Seen) -> tuple[Event, ...]:
    """At most ``MAX_HISTORY`` revisions are left, the one just made included; the oldest go first.

    Helm does this itself on upgrade and rollback, and never on an install.
    """
    others = [one for one in seen.revisions if one.revision != stored.revision]
    old = [one for one in others if one.status != "deployed"][: max(0, len(others) + 1 - MAX_HISTORY)]
    for one in old:
        name = f"sh.helm.release.v1.{attempt.row.release_name}.v{one.revision}"
        await attempt.client.delete_object(SECRETS, namespace=attempt.row.namespace, name=name, uid=one.uid)
    return ()


async def restart_workloads(attempt: Attempt, stored: StoredRelease) -> tuple[Event, ...]:
    """The pods of the release's Deployments, StatefulSets and DaemonSets are replaced, as by a rollout restart."""
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    patch = {"spec": {"template": {"metadata": {"annotations": {_RESTARTED_AT: moment}}}}}
    restarted, failed = [], []
    for one in await _objects(stored):
        if one.kind not in _RESTARTED or not one.api_version.startswith("apps/"):
            continue
        try:
            kind = await _kind(attempt.client, one)
            if kind and await attempt.client.merge_object(kind, namespace=one.namespace, name=one.name, patch=patch):
                restarted.append(f"{one.kind}/{one.name}")
        except (ClusterDenied, InvalidRequest) as error:
            failed.append(f"{one.kind}/{one.name} ({error})")
    return (
        *_told("workloads_restarted", "restarted: ", restarted),
        *_told("workloads_not_restarted", "not restarted: ", failed),
    )


def _replaced(seen: Seen, *, before: int) -> list[ReleaseLabels]:
    """The failed revisions right before that one, and the deployed one before them."""
    replaced: list[ReleaseLabels] = []
    for one in reversed(seen.revisions):
        if one.revision >= before:
            continue
        if one.status not in {"failed", "deployed"}:
            break
        replaced.append(one)
        if one.status == "deployed":
            break
    return replaced


async def _remove(attempt: Attempt, one: ManifestObject) -> bool:
    kind = await _kind(attempt.client, one)
    if kind is None:
        return False
    live = await attempt.client.find_object(kind, namespace=one.namespace, name=one.name, largest=_LARGEST_OBJECT)
    metadata = (live or {}).get("metadata") or {}
    if not _belongs(metadata, attempt):
        return False
    log.info("orphan_removed", operation_id=attempt.row.id, kind=one.kind, name=one.name)
    return await attempt.client.delete_object(kind, namespace=one.namespace, name=one.name, uid=str(metadata["uid"]))


def _belongs(metadata: dict[str, Any], attempt: Attempt) -> bool:
    """By the marks that Helm sets and checks itself (Helm ``pkg/action/validate.go``)."""
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return (
        bool(metadata.get("uid"))
        and labels.get("app.kubernetes.io/managed-by") == "Helm"
        and annotations.get("meta.helm.sh/release-name") == attempt.row.release_name
        and annotations.get("meta.helm.sh/release-namespace") == attempt.row.namespace
        and str(annotations.get("helm.sh/resource-policy", "")).strip().lower() != _KEEP
    )


async def _kind(client: ClusterClient, one: ManifestObject) -> ObjectKind | None:
    return (await client.list_kinds(one.api_version)).get(one.kind)


async def _objects(stored: StoredRelease) -> Sequence[ManifestObject]:
    """The objects of the revision's manifest; none if it cannot be read."""
    try:
        documents = await asyncio.to_thread(
            read_objects, stored.manifest.encode(), file="manifest", max_bytes=_LARGEST_MANIFEST
        )
    except (InvalidChart, UnicodeEncodeError) as error:
        log.warning("manifest_unreadable", release=stored.name, revision=stored.revision, cause=str(error))
        return []
    return manifest_objects(documents, namespace=stored.namespace)


def _identity(one: ManifestObject) -> tuple[str, ...]:
    """What makes two entries the same object, whatever version of its group they are written in."""
    group = one.api_version.rpartition("/")[0]
    return group, one.kind, one.namespace, one.name


def _told(kind: str, words: str, names: list[str]) -> tuple[Event, ...]:
    return (Event(kind, words + ", ".join(names)),) if names else ()

"""Steps that Helm leaves to its caller: delete orphans, prune history, restart workloads.

A later attempt may repeat each. Missing rights or kinds that are no longer served are reported as events and do not
fail the operation, because the revision is deployed.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import structlog

from pilothouse.errors import ClusterDenied, InvalidRequest
from pilothouse.kubernetes.client import SECRETS, Secret
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL, StoredRelease, supersede
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.kubernetes.resources import ManifestObject
from pilothouse.states import ReleaseStatus
from pilothouse.worker.actions.manifests import find_removable, identity, read_objects_of, remove_object
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.outcome import Event
from pilothouse.worker.state import ReleaseSnapshot, classify_failed
from pilothouse.worker.steps import CLEAN_UP, Step

log = structlog.get_logger(__name__)

_RESTARTED = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
#: What ``kubectl rollout restart`` writes.
_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
#: How often an object is looked at that a controller changes before it can be removed.
_REMOVALS = 5


async def remove_orphans(attempt: Attempt, stored: StoredRelease, snapshot: ReleaseSnapshot) -> tuple[Event, ...]:
    """Delete objects that only the revisions replaced by this one had.

    Those revisions are the failed ones immediately before it, and the deployed one before them, if there is one. Only
    objects that still belong to this release are deleted, and none that is to be kept. Helm compares with one revision
    only: with none in an install with ``replace``, with the deployed one in an upgrade, with the newest in a rollback.
    """
    replaced = _replaced(snapshot, before=stored.revision)
    if not replaced:
        return ()
    newest = (await attempt.observe()).newest
    if newest is None or newest.uid != stored.uid:
        return ()
    orphans = await _list_orphans(attempt, replaced, kept=stored)
    return await remove_objects(attempt, orphans, KindCache(attempt.client), newest=newest)


async def remove_created(attempt: Attempt, secret: Secret | None) -> tuple[Event, ...]:
    """Delete objects that a failed upgrade created: those that the deployed revision lacks and that are not older.

    An attempt that died has left a revision of its own, and objects that its successor found there. The API server
    dates both the objects and the Secrets, of which the first is stored before any of them. Helm does this in its own
    process, and so never if that dies.
    """
    failed, snapshot = stored_in(secret), await attempt.observe()
    kept = await attempt.read_release(await attempt.find_last_deployed(snapshot) or 0)
    step = attempt.decide_by(CLEAN_UP, classify_failed(snapshot, attempt.row, failed, deployed=kept is not None))
    if step is not Step.CLEAN_UP or secret is None or failed is None or kept is None:
        return ()
    stays = {identity(obj) for obj in await read_objects_of(kept)}
    secrets = [secret, *[await attempt.read(labels.revision) for labels in _failed_before(snapshot, attempt.row.id)]]
    since = min(str(secret["metadata"].get("creationTimestamp", "")) for secret in secrets if secret is not None)
    tried = [stored for secret in secrets if (stored := stored_in(secret)) is not None]
    made = {
        identity(obj): obj
        for revision in tried
        for obj in await read_objects_of(revision)
        if identity(obj) not in stays
    }
    return await remove_objects(attempt, made.values(), KindCache(attempt.client), newest=snapshot.newest, since=since)


def _failed_before(snapshot: ReleaseSnapshot, operation_id: str) -> Iterator[ReleaseLabels]:
    """Yield the failed revisions before the newest that earlier attempts of the operation have left."""
    for revision in snapshot.revisions[:-1]:
        if revision.status == ReleaseStatus.FAILED and revision.labels.get(OPERATION_LABEL) == operation_id:
            yield revision


async def list_orphans(attempt: Attempt, snapshot: ReleaseSnapshot) -> Sequence[ManifestObject]:
    """Return objects that the failed newest revision lacks but its predecessors had; none if it has not failed.

    An uninstall knows the newest revision only.
    """
    newest = snapshot.newest
    if newest is None or newest.status != ReleaseStatus.FAILED:
        return []
    replaced = _replaced(snapshot, before=newest.revision)
    stored = await attempt.read_release(newest.revision) if replaced else None
    return await _list_orphans(attempt, replaced, kept=stored) if stored is not None else []


async def _list_orphans(
    attempt: Attempt, replaced: Iterable[ReleaseLabels], *, kept: StoredRelease
) -> Sequence[ManifestObject]:
    stays = {identity(obj) for obj in await read_objects_of(kept)}
    orphans: dict[tuple[str, ...], ManifestObject] = {}
    for revision in replaced:
        old = await attempt.read_release(revision.revision)
        if old is not None:
            orphans |= {identity(obj): obj for obj in await read_objects_of(old) if identity(obj) not in stays}
    return list(orphans.values())


async def remove_objects(
    attempt: Attempt,
    objects: Iterable[ManifestObject],
    kinds: KindCache,
    *,
    newest: ReleaseLabels | None,
    since: str = "",
) -> tuple[Event, ...]:
    """Delete those of the objects that belong to the release and need not be kept, if ``newest`` is its newest.

    Helm stores a revision before it touches an object. So objects read before the release was found unchanged are not
    those of another program's next revision, and they are deleted only if they are unchanged since. ``since``: only
    those that were created then or later. CRDs and namespaces are left, as objects of others would go with them.
    """
    removed, failed, left = [], [], list(objects)
    for _ in range(_REMOVALS):
        existing = []
        for obj in left:
            try:
                removable = await find_removable(attempt, obj, kinds)
                if removable is None or removable.created_at < since:
                    continue
                if removable.why_left:
                    failed.append(f"{obj.kind}/{obj.name} ({removable.why_left})")
                else:
                    existing.append(removable)
            except (ClusterDenied, InvalidRequest) as error:
                failed.append(f"{obj.kind}/{obj.name} ({error})")
        if not existing or (await attempt.observe()).newest != newest:
            break
        left = []
        for each in existing:
            name = f"{each.obj.kind}/{each.obj.name}"
            try:
                if await remove_object(attempt, each):
                    removed.append(name)
                else:  # changed by a controller, or gone
                    left.append(each.obj)
            except (ClusterDenied, InvalidRequest) as error:
                failed.append(f"{name} ({error})")
    else:
        failed += [f"{obj.kind}/{obj.name} (it changed each time before it was removed)" for obj in left]
    return (
        *named_objects_event("orphans_removed", "removed, no longer part of the release: ", removed),
        *named_objects_event("orphans_left", "left behind: ", failed),
    )


async def supersede_older(attempt: Attempt, stored: StoredRelease, snapshot: ReleaseSnapshot) -> None:
    """Mark deployed revisions before this one as superseded.

    An install over a failed upgrade leaves one; so does an upgrade or a rollback whose write about it was lost: Helm
    only logs that, and continues.
    """
    for revision in snapshot.revisions:
        if revision.status == ReleaseStatus.DEPLOYED and revision.revision < stored.revision:
            allow_stale = await attempt.read(revision.revision, allow_stale=True)
            if (
                allow_stale is not None
                and allow_stale["metadata"].get("labels", {}).get("status") == ReleaseStatus.SUPERSEDED
            ):
                continue
            secret = await attempt.read(revision.revision)
            attempt.check_held()
            if secret is not None and await supersede(attempt.client, secret):
                log.info("revision_superseded", operation_id=attempt.row.id, revision=revision.revision)


async def prune_history(
    attempt: Attempt, stored: StoredRelease, snapshot: ReleaseSnapshot, *, keep: int
) -> tuple[Event, ...]:
    """Delete the oldest revisions beyond the last ``keep``, which include the new one; 0 keeps all.

    Helm does this itself on upgrade and rollback, but not on an install.
    """
    others = [revision for revision in snapshot.revisions if revision.revision != stored.revision]
    old = [revision for revision in others if revision.status != ReleaseStatus.DEPLOYED][
        : max(0, len(others) + 1 - keep) if keep else 0
    ]
    for revision in old:
        attempt.check_held()
        name = f"sh.helm.release.v1.{attempt.row.release_name}.v{revision.revision}"
        await attempt.client.delete_object(SECRETS, namespace=attempt.row.namespace, name=name, uid=revision.uid)
    return ()


async def restart_workloads(attempt: Attempt, stored: StoredRelease) -> tuple[Event, ...]:
    """Restart the pods of the release's Deployments, StatefulSets and DaemonSets, like a rollout restart."""
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    patch = {"spec": {"template": {"metadata": {"annotations": {_RESTARTED_AT: moment}}}}}
    restarted, failed, kinds = [], [], KindCache(attempt.client)
    for obj in await read_objects_of(stored):
        if obj.kind not in _RESTARTED or not obj.api_version.startswith("apps/"):
            continue
        try:
            kind = await kinds.find(obj.api_version, obj.kind)
            attempt.check_held()
            if kind and await attempt.client.merge_object(kind, namespace=obj.namespace, name=obj.name, patch=patch):
                restarted.append(f"{obj.kind}/{obj.name}")
        except (ClusterDenied, InvalidRequest) as error:
            failed.append(f"{obj.kind}/{obj.name} ({error})")
    return (
        *named_objects_event("workloads_restarted", "restarted: ", restarted),
        *named_objects_event("workloads_not_restarted", "not restarted: ", failed),
    )


def _replaced(snapshot: ReleaseSnapshot, *, before: int) -> list[ReleaseLabels]:
    """Return the failed revisions immediately before ``before``, and the last deployed one before those.

    The latter can have been superseded just now.
    """
    replaced: list[ReleaseLabels] = []
    for revision in reversed(snapshot.revisions):
        if revision.revision >= before:
            continue
        if revision.status not in {ReleaseStatus.FAILED, ReleaseStatus.DEPLOYED, ReleaseStatus.SUPERSEDED}:
            break
        replaced.append(revision)
        if revision.status != ReleaseStatus.FAILED:
            break
    return replaced


def named_objects_event(kind: str, words: str, names: list[str]) -> tuple[Event, ...]:
    """Return an event about these objects; none if there are none."""
    return (Event(kind, words + ", ".join(names)),) if names else ()

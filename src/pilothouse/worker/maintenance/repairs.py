"""Repairs: a second check of a release, one lease after a taken-over or cancelled operation ended.

The database keeps a worker that lost its lease from writing there, and the immutable Secret keeps it from turning its
revision to ``deployed``; but a request about an object that it had sent, or sends before it notices, reaches the
cluster. So the release is checked again when no such request can be in flight: the objects of its deployed revision are
applied again, as Helm applies them, and objects that only an interrupted revision had are deleted.

Applying changes nothing if nothing differs, never takes a field from another manager, and never hits a newer object:
the release is found unchanged after its objects were read, and each request carries the resourceVersion that was read.
Operations and repairs exclude each other, see ``store.repairs``. If a release's newest revision is not the deployed
one, it is left as Helm left it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from pilothouse.engine.deadline import Fence, boottime
from pilothouse.errors import (
    ClusterDenied,
    ClusterUnavailable,
    CorruptRelease,
    DatabaseUnavailable,
    InvalidRequest,
    NotFound,
)
from pilothouse.kubernetes.client import ObjectKind
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.resources import ManifestObject, Object
from pilothouse.metrics import REPAIRS
from pilothouse.states import Action, ReleaseStatus
from pilothouse.store import operations, repairs
from pilothouse.store.database import Database
from pilothouse.worker.actions.manifests import as_applied, belongs, find_live, identity, read_parts
from pilothouse.worker.actions.post_actions import named_objects_event, remove_objects
from pilothouse.worker.actions.registry import Actions
from pilothouse.worker.attempt import Attempt
from pilothouse.worker.outcome import Event, LeaseLost
from pilothouse.worker.periodic import keep_doing
from pilothouse.worker.state import ReleaseSnapshot, classify_ended, classify_repaired, was_interrupted
from pilothouse.worker.steps import REPAIR, Step

log = structlog.get_logger(__name__)

#: How long writers may have to wait for a repair; what is not done by then is done the next time.
_LONGEST_SECONDS = 8.0
_LEASE_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 15.0
#: A cluster that cannot be reached for so long is not waited for any more.
_GIVE_UP_SECONDS = 3600.0


class Repairs:
    """Carry out due repairs; every worker does it."""

    def __init__(self, database: Database, actions: Actions) -> None:
        self._database = database
        self._actions = actions

    async def run(self) -> None:
        """Check every second until cancelled."""

        async def repair_all() -> None:
            while await self._repair_next():
                pass

        await keep_doing(repair_all, every_seconds=_LOOK_SECONDS, failure="repair_round_failed")

    async def _repair_next(self) -> bool:
        until = boottime() + _LONGEST_SECONDS  # before it is asked for: the answer may be long on its way
        async with self._database.transaction() as tx:
            taken = await repairs.take_repair(tx, lease_seconds=_LEASE_SECONDS)
        if taken is None:
            return False
        done, reached = await self._attempt_repair(taken, until)
        REPAIRS.labels("done" if done else "postponed").inc()
        async with self._database.transaction() as tx:
            if done:
                await repairs.end_repair(tx, taken)
            else:
                await repairs.postpone_repair(tx, taken, seconds=_RETRY_SECONDS, at_most_seconds=_GIVE_UP_SECONDS)
            if not reached:
                # Else each of them would wait for the cluster in vain, and those of other clusters for them.
                await repairs.postpone_cluster(tx, taken, seconds=_RETRY_SECONDS)
        return True

    async def _attempt_repair(self, taken: repairs.TakenRepair, until: float) -> tuple[bool, bool]:
        """Return whether nothing more is to be done for it, and whether the cluster could be reached."""
        operation_id = taken.operation_id
        try:
            async with asyncio.timeout(until - boottime()):
                return await self._repair(operation_id, taken.objects, Fence(until)), True
        except (ClusterUnavailable, ClusterDenied, TimeoutError, LeaseLost) as error:
            log.warning("repair_postponed", operation_id=operation_id, cause=str(error))
            return False, not isinstance(error, ClusterUnavailable)
        except (CorruptRelease, NotFound, InvalidRequest) as error:
            log.warning("repair_given_up", operation_id=operation_id, cause=str(error))
            return True, True
        except DatabaseUnavailable:
            raise
        except Exception:  # the cluster decides what is found there: it may not end the worker, and the next one
            log.exception("repair_failed", operation_id=operation_id)
            return False, True

    async def _repair(self, operation_id: str, objects: str, fence: Fence) -> bool:
        """Return True if it was done; not while an operation is active on the release."""
        async with self._database.autocommit() as connection:
            row = await operations.find_operation(connection, operation_id)
            busy = await repairs.has_company(connection, operation_id)
        if row is None or busy:
            return False
        attempt = await self._actions.look_again(row, fence=fence)
        if row.action == Action.TEST:  # it writes no object of the manifest
            return True
        remembered = _read_objects(operation_id, objects)
        events, settled = await repair(attempt, remembered=remembered)
        for event in events:
            await attempt.record(event.kind, event.text)
        return settled


def _read_objects(operation_id: str, objects: str) -> list[ManifestObject]:
    """Return the remembered objects; none if the row is damaged: the repair of the release itself needs none."""
    try:
        return [ManifestObject(*obj) for obj in msgspec.json.decode(objects, type=list[tuple[str, str, str, str]])]
    except msgspec.MsgspecError as error:
        log.warning("repair_objects_unreadable", operation_id=operation_id, column="repairs.objects", cause=str(error))
        return []


async def repair(attempt: Attempt, *, remembered: Sequence[ManifestObject]) -> tuple[tuple[Event, ...], bool]:
    """Re-apply the objects of the deployed revision, or delete all if the release is gone; return events.

    ``remembered``: objects of a revision that was uninstalled. Also returns whether the repair is complete: it is not
    if another program's revision came just when something was deleted, which that may have found and kept as its own.
    """
    snapshot, kinds = await attempt.observe(), KindCache(attempt.client)
    newest = snapshot.newest
    if attempt.decide_by(REPAIR, classify_ended(newest)) is Step.LEAVE:
        return (), True
    stored = await attempt.read_release(newest.revision) if newest is not None else None
    parts = await read_parts(stored) if stored is not None else []
    readable = stored is None or bool(parts) or not stored.manifest.strip()
    if attempt.decide_by(REPAIR, classify_ended(newest, readable=readable)) is Step.LEAVE:
        return (), True
    stale = {identity(obj): obj for obj in (*remembered, *await _interrupted(attempt, snapshot))}
    for obj, _ in parts:
        stale.pop(identity(obj), None)
    removed = await remove_objects(attempt, stale.values(), kinds, newest=newest)
    due = [obj for obj in [await _look_at(attempt, *part, kinds) for part in parts] if obj is not None]
    now = (await attempt.observe()).newest
    step = attempt.decide_by(REPAIR, classify_repaired(newest, now, removed=bool(removed)))
    if step in {Step.LEAVE, Step.RETRY}:
        return removed, step is Step.LEAVE
    return (*removed, *await _apply_again(attempt, due)), True


@dataclass(frozen=True)
class _Due:
    """An object to be made as in the document; ``version``: its resourceVersion when it was read, or empty."""

    obj: ManifestObject
    document: Object
    kind: ObjectKind
    version: str


async def _interrupted(attempt: Attempt, snapshot: ReleaseSnapshot) -> list[ManifestObject]:
    """Return objects of revisions whose writers died, which a writer that woke up may have created again."""
    found: list[ManifestObject] = []
    for labels in snapshot.revisions:
        if labels.status == ReleaseStatus.FAILED:
            old: StoredRelease | None = await attempt.read_release(labels.revision)
            if old is not None and was_interrupted(old):
                found += [part for part, _ in await read_parts(old)]
    return found


async def _look_at(attempt: Attempt, obj: ManifestObject, document: Object, kinds: KindCache) -> _Due | None:
    """Return what to apply; None for foreign objects, and for deleted Jobs, which may delete themselves.

    Also None for what cannot be read: whether that is only this object, the next look at the release shows.
    """
    try:
        kind = await kinds.find(obj.api_version, obj.kind)
        live = await find_live(attempt, obj, kind) if kind is not None else None
    except (ClusterDenied, InvalidRequest) as error:
        log.info("object_not_looked_at", operation_id=attempt.row.id, kind=obj.kind, cause=str(error))
        return None
    if kind is None:
        return None
    if live is None:
        return None if obj.kind == "Job" else _Due(obj, document, kind, "")
    return _Due(obj, document, kind, str(live["metadata"]["resourceVersion"])) if belongs(live, attempt) else None


async def _apply_again(attempt: Attempt, due: Sequence[_Due]) -> tuple[Event, ...]:
    repaired, failed = [], []
    for each in due:
        name = f"{each.obj.kind}/{each.obj.name}"
        body = as_applied(each.document, attempt, resource_version=each.version)
        attempt.check_held()
        try:
            after = await attempt.client.apply_object(
                each.kind, namespace=each.obj.namespace, name=each.obj.name, body=body
            )
        except (ClusterDenied, InvalidRequest) as error:
            after = ""
            log.info("object_not_repaired", operation_id=attempt.row.id, object=name, cause=str(error))
        if not after:
            failed.append(name)
        elif after != each.version:
            repaired.append(name)
            log.warning("object_repaired", operation_id=attempt.row.id, object=name)
    return (
        *named_objects_event("objects_repaired", "re-applied from the deployed revision: ", repaired),
        *named_objects_event("objects_not_repaired", "not re-applied, rejected by the API server: ", failed),
    )

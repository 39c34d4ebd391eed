"""Collects evidence of a failure before it disappears: states, last log lines, Kubernetes events, conflicts.

Read-only, with its own time limit. What could not be read is named in ``missing``; no error here changes the outcome.
In every text the operation's values, the data of the release's own Secrets, and whatever looks like a secret by shape
or name are masked; a secret that a program logs in another form is not recognised.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from pilothouse.chart_archive.documents import read_objects
from pilothouse.engine.helm_errors import Blocking, blocking_in
from pilothouse.errors import InvalidChart, PilothouseError
from pilothouse.kubernetes.budget import Budget, budgeted
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.pods import Pods, event_facts
from pilothouse.kubernetes.readiness import is_healthy, mapping, progress
from pilothouse.kubernetes.resources import ManifestObject, manifest_parts
from pilothouse.masking_thread import in_masking_thread
from pilothouse.redaction import Masks, masks_of_data
from pilothouse.worker.actions.manifests import find_live, read_parts
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.diagnostics.belonging import (
    created_at,
    is_done,
    is_own_event,
    pod_state,
    pods_of_job,
    since,
    uid_of,
)
from pilothouse.worker.diagnostics.found import Found, Object
from pilothouse.worker.outcome import Outcome
from pilothouse.worker.progress.hook_pods import MOST_LINES

log = structlog.get_logger(__name__)

SECONDS: Final = 5.0
_AT_ONCE: Final = 6
_MOST_OBJECTS: Final = 40
_MOST_PODS_EACH: Final = 3
_MOST_EVENTS_EACH: Final = 20
_LARGEST_LIST: Final = 8 * 1024 * 1024
#: What may be read of the cluster for it, besides logs, which have limits of their own.
_MOST_BYTES: Final = 32 * 1024 * 1024
_WORKLOADS: Final = frozenset(
    {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "Pod"}
)


async def collect(attempt: Attempt, outcome: Outcome) -> str:
    """Return the evidence of the failure, as a JSON object of at most 256 KiB.

    The cluster is read if there is a revision, or were hooks, that could be related to it.
    """
    found = Found([attempt.masks()])
    try:
        stored = stored_in(outcome.secret)
        await attempt.known.learn(stored)
        found.masks[:] = [attempt.masks()]
        parts = await read_parts(stored) if stored is not None else ()
        hooks = await _hooks(stored) if stored is not None else []
        found.masks.append(await masks_of_secrets([document for _, document in (*parts, *hooks)]))
        await in_masking_thread(found.add_followed, attempt.followed)
        if stored is not None or found.pods:
            async with asyncio.timeout(SECONDS), _pods(attempt) as pods:
                broken = [obj for obj, _ in (await _hooks(stored, broken=True) if stored is not None else ())]
                blocking = {_key(obj) for obj in blocking_in(outcome.text)}
                workloads = [obj for obj, _ in parts if obj.kind in _WORKLOADS or _key(obj) in blocking]
                await _Collection(attempt, pods, found).run([*_followed_hooks(attempt), *broken], workloads)
    except TimeoutError:
        found.missing.append(f"the cluster took more than {SECONDS:g} s; this was collected before")
    except PilothouseError as error:
        found.missing.append(str(error))
    except Exception:
        # the outcome must not depend on this; what is wrong is a bug of ours
        log.exception("evidence_failed", operation_id=attempt.row.id)
        found.missing.append("an error inside Pilothouse; the server's log has it under this operation's id")
    return await in_masking_thread(found.put_together, outcome.text)


async def of_silence(attempt: Attempt, text: str, *, cause: str) -> str:
    """Return what is known without reading the cluster, and the ``cause`` why it was not; as from ``collect``."""
    found = Found([attempt.masks()], missing=[cause])
    await in_masking_thread(found.add_followed, attempt.followed)
    return await in_masking_thread(found.put_together, text)


async def of_tests(attempt: Attempt, outcome: Outcome) -> str:
    """Return what tests that passed have said, without reading the cluster; as from ``collect``."""
    stored = stored_in(outcome.secret)
    await attempt.known.learn(stored)
    found = Found([attempt.masks()])
    if stored is not None:
        documents = [document for _, document in (*await read_parts(stored), *await _hooks(stored))]
        found.masks.append(await masks_of_secrets(documents))
        await in_masking_thread(found.add_followed, attempt.followed)
    else:
        found.missing.append("the logs: the revision, whose secrets would have to be masked, could not be read")
    return await in_masking_thread(found.put_together, "")


@asynccontextmanager
async def _pods(attempt: Attempt) -> AsyncIterator[Pods]:
    """Connect, with the budget for reads inside."""
    pods = attempt.connect_pods()
    with budgeted(Budget(seconds=SECONDS, most_bytes=_MOST_BYTES)):
        try:
            yield pods
        finally:
            await pods.close()


class _Collection:
    """Read the cluster; answers are kept when the time is over."""

    def __init__(self, attempt: Attempt, pods: Pods, found: Found) -> None:
        self._attempt = attempt
        self._pods = pods
        self._found = found
        self._kinds = KindCache(attempt.client)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._since = since(attempt, ahead=None)

    async def run(self, hooks: Iterable[ManifestObject], others: Iterable[ManifestObject]) -> None:
        """Check hooks that did not succeed and objects that may not be ready; then the logs of their pods."""
        await self._all([self._read_clock()])
        self._found.leave_out_hooks_before(self._since)
        known = {_key(obj): obj for obj in hooks}
        objects = [(obj, True) for obj in known.values()] + [(obj, False) for obj in others if _key(obj) not in known]
        await self._all(self._look(obj, hook=hook) for obj, hook in objects[:_MOST_OBJECTS])
        if len(objects) > _MOST_OBJECTS:
            self._found.missing.append(f"{len(objects) - _MOST_OBJECTS} objects were not read")
        tests = self._attempt.followed.tests  # whose logs were read when they had ended, and before they were removed
        read = {id(self._found.pods.get(pod.key)) for pod in tests.pods} if tests is not None else set()
        await self._all(self._read_logs(pod) for pod in list(self._found.pods.values()) if id(pod) not in read)

    async def _read_clock(self) -> None:
        self._since = since(self._attempt, ahead=await self._pods.clock_ahead())

    async def _all(self, work: Iterable[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(self._one(coroutine))

    async def _one(self, work: Any) -> None:
        async with self._places:
            try:
                await work
            except PilothouseError as error:
                if str(error) not in self._found.missing:
                    self._found.missing.append(str(error))

    async def _look(self, obj: ManifestObject, *, hook: bool) -> None:
        """Add the object, its unhealthy pods, and their events; nothing if it is ready."""
        kind = await self._kinds.find(obj.api_version, obj.kind)
        live = await find_live(self._attempt, obj, kind) if kind is not None else None
        live = live or self._attempt.followed.removed.get(_key(obj))
        pods = await self._pods_of(obj, live)
        ailing = sorted((pod for pod in pods if not is_healthy(pod)), key=created_at, reverse=True)
        if not ailing and live is not None and is_done(live, hook=hook):
            return
        state = "not in the cluster" if live is None else progress(live) or pod_state(live)
        self._found.objects.append(
            {"kind": obj.kind, "namespace": obj.namespace, "name": obj.name, "hook": hook, "state": state}
        )
        for pod in ailing[:_MOST_PODS_EACH]:
            await in_masking_thread(self._found.add_pod, f"{obj.kind}/{obj.name}", pod, hook=hook)
        await self._events_about(obj, pods, uid=uid_of(live))

    async def _pods_of(self, obj: ManifestObject, live: Object | None) -> list[Object]:
        if obj.kind == "Pod":
            return [live] if live is not None else []
        labels = {"job-name": obj.name} if obj.kind == "Job" else dict(obj.selector)
        if not labels:
            return []
        pods = await self._attempt.client.list_pods(
            namespace=obj.namespace, labels=labels, limit=50, largest=_LARGEST_LIST
        )
        return pods if obj.kind != "Job" else pods_of_job(pods, live, since=self._since)

    async def _events_about(self, obj: ManifestObject, pods: list[Object], *, uid: str) -> None:
        """Add events of the object, its unhealthy pods, and their creators; of a Job's deleted pods, too."""
        own = await self._events(obj.namespace, obj.kind, obj.name, uid=uid)
        others = {("Pod", name) for (namespace, name), pod in list(self._found.pods.items())
                  if namespace == obj.namespace and pod["owner"] == f"{obj.kind}/{obj.name}"}  # fmt: skip
        for pod in pods:
            for owner in mapping(pod.get("metadata")).get("ownerReferences") or ():
                if mapping(owner).get("kind") == "ReplicaSet":
                    others.add(("ReplicaSet", str(owner.get("name"))))
        for event in own:
            if event["reason"] == "SuccessfulCreate" and event["text"].startswith("Created pod: "):
                others.add(("Pod", event["text"].removeprefix("Created pod: ")))
        for kind, name in sorted(others)[: _MOST_PODS_EACH * 2]:
            if (kind, name) != (obj.kind, obj.name):
                await self._events(obj.namespace, kind, name)

    async def _events(self, namespace: str, kind: str, name: str, *, uid: str = "") -> list[Object]:
        listed = await self._pods.list_events(namespace=namespace, kind=kind, name=name)
        found = [event for event in listed if is_own_event(event, since=self._since, uid=uid)]
        events = await in_masking_thread(lambda: [self._event(event) for event in found])
        events.sort(key=lambda event: event["at"])
        self._found.events += events[-_MOST_EVENTS_EACH:]
        return events

    def _event(self, event: Object) -> Object:
        facts = event_facts(event)
        return facts | {"text": self._found.clean(facts["text"])}

    async def _read_logs(self, pod: Object) -> None:
        for container in pod["containers"]:
            if not container["started"]:
                continue
            lines: deque[bytes] = deque(maxlen=MOST_LINES)
            try:
                async for some in self._pods.read_log(
                    namespace=pod["namespace"],
                    pod=pod["name"],
                    container=container["name"],
                    most_lines=MOST_LINES,
                    seconds=SECONDS,
                ):
                    lines.extend(some)
            except PilothouseError as error:
                if not container["followed"]:  # else what was seen while it ran has to do
                    self._found.missing.append(f"log of {pod['name']}, container {container['name']}: {error}")
            container["log"] = await in_masking_thread(self._found.clean_lines, lines) or container["log"]


def _followed_hooks(attempt: Attempt) -> Iterator[ManifestObject]:
    for (namespace, _), (owner, _) in attempt.followed.pods.items():
        kind, _, name = owner.partition("/")
        yield ManifestObject("batch/v1" if kind == "Job" else "v1", kind, namespace, name)


async def _hooks(stored: StoredRelease, *, broken: bool = False) -> list[tuple[ManifestObject, Object]]:
    found = []
    for manifest in stored.hook_manifests(broken=broken):
        try:
            documents = await asyncio.to_thread(read_objects, manifest.encode(), file="hook", max_bytes=_LARGEST_LIST)
        except (InvalidChart, UnicodeEncodeError):
            continue
        found += manifest_parts(documents, namespace=stored.namespace)
    return found


async def masks_of_secrets(documents: Iterable[Object]) -> Masks:
    """Return masks for the release's own Secrets, which a program of the release reads and may print.

    One set for all, so that there is one limit: beyond it every text is withheld.
    """
    secrets = [document for document in documents if document.get("kind") == "Secret"]

    def make() -> Masks:
        data, plain = ([mapping(secret.get(key)) for secret in secrets] for key in ("data", "stringData"))
        return masks_of_data(*data, plain=plain).prepare()

    return await in_masking_thread(make)


def _key(obj: ManifestObject | Blocking) -> tuple[str, str, str]:
    return obj.kind, obj.namespace, obj.name

"""The live objects of a manifest, and below each what owner references say was made for it, down to pods.

Pods and what makes them are listed by the selectors of the manifest's workloads. Objects of kinds that Kubernetes does
not define itself may own anything: in their namespaces, all workloads are listed. What is kept of an object is a few
words, so that a tree of a large release is small.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pilothouse.errors import Busy, ClusterDenied, ClusterUnavailable, InvalidRequest
from pilothouse.kubernetes.client import WORKLOADS, ClusterClient
from pilothouse.kubernetes.health import Health, health_of
from pilothouse.kubernetes.in_time import gather_in_time
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.readiness import mapping, replicas
from pilothouse.kubernetes.resources import ManifestObject
from pilothouse.kubernetes.transport import AnswerTooLarge

_AT_ONCE: Final = 4
MOST_OBJECTS: Final = 500
#: Objects below those of the manifest, over all lists: real releases have some tens.
_MOST_OWNED: Final = 1000
_MOST_LISTED: Final = 5000
_LARGEST_OBJECT: Final = 2 * 1024 * 1024
_DEEPEST: Final = 6
_MOST_IMAGES: Final = 20
_LONGEST_NAME: Final = 253
_LONGEST_IMAGE: Final = 300
_LONGEST_MESSAGE: Final = 1000
_LONGEST_TIME: Final = 40
_TOO_LATE: Final = "the cluster did not answer in time"
_FAILURES: Final = (ClusterDenied, ClusterUnavailable, InvalidRequest, Busy)

_PODS: Final = "Pod"
_SELECTED: Final = {
    "Deployment": ("ReplicaSet", _PODS),
    **dict.fromkeys(("StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"), (_PODS,)),
}
#: Every pod of a Job has this label.
_OF_JOBS: Final = "job-name"

Object = dict[str, Any]


@dataclass
class TreeNode:
    """An object: of the manifest, or made for the one above it.

    ``ready`` and ``wanted``: replicas, of a Job completions, of a pod containers; None for kinds without. ``message``:
    why it is not healthy, or could not be read.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    health: Health
    message: str = ""
    ready: int | None = None
    wanted: int | None = None
    images: list[str] = field(default_factory=list)
    created_at: str = ""
    children: list["TreeNode"] = field(default_factory=list)


@dataclass(frozen=True)
class ObjectTree:
    """The objects of a manifest in its order; ``problems`` say what is not in it, and why."""

    objects: list[TreeNode]
    problems: list[str]

    @property
    def summary(self) -> dict[str, int]:
        """Return how many objects of the manifest have each health."""
        counted = Counter(obj.health for obj in self.objects)
        return {str(health): counted[health] for health in Health}

    @property
    def health(self) -> Health:
        """Return the worst health of the objects of the manifest."""
        found = {obj.health for obj in self.objects}
        return next((health for health in Health if health in found), Health.HEALTHY)

    def nodes(self) -> Iterator[TreeNode]:
        """Yield every node."""
        waiting = list(self.objects)
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.children


@dataclass(frozen=True)
class _List:
    """Objects of a kind that match a selector; '' for all of the namespace."""

    kind: str
    namespace: str
    selector: str


class TreeReader:
    """Read the tree of a manifest from one cluster, in at most ``seconds``."""

    def __init__(self, client: ClusterClient, *, seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._listed = 0
        self._nodes: dict[str, TreeNode] = {}
        self._owned: dict[str, list[tuple[str, TreeNode]]] = {}
        self._kept = 0
        self._problems: dict[str, None] = {}

    async def read(self, objects: Sequence[ManifestObject]) -> ObjectTree:
        """Return the tree; what is gone, unreadable or over the limits says so."""
        read = objects[:MOST_OBJECTS]
        lists = list(_lists(read))
        kinds = KindCache(self._client, only=frozenset(obj.kind for obj in read))
        roots = [_node(obj, Health.UNKNOWN, _TOO_LATE) for obj in objects]
        late = await self._all(
            [
                *(self._find(obj, roots[number], kinds) for number, obj in enumerate(read)),
                *(self._list(listing) for listing in lists),
            ]
        )
        for number in late:
            if number >= len(read):
                self._note(lists[number - len(read)], _TOO_LATE)
        for node in roots[MOST_OBJECTS:]:
            node.message = f"left out: more than {MOST_OBJECTS} objects"
        taken = set(self._nodes)
        for uid, node in list(self._nodes.items()):
            self._grow(node, uid, taken, depth=1)
        return ObjectTree(roots, list(self._problems))

    async def _all(self, work: Sequence[Coroutine[Any, Any, None]]) -> list[int]:
        """Do all work that is done in time; return the numbers of the rest."""
        tasks = await gather_in_time(work, seconds=self._seconds)
        for task in tasks:
            if not task.cancelled():
                task.result()
        return [number for number, task in enumerate(tasks) if task.cancelled()]

    async def _find(self, obj: ManifestObject, node: TreeNode, kinds: KindCache) -> None:
        try:
            kind = await kinds.find(obj.api_version, obj.kind)
            if kind is None:
                node.message = f"the cluster does not serve {obj.api_version} {obj.kind}"
                return
            async with self._places:
                live = await self._client.find_object(
                    kind, namespace=obj.namespace, name=obj.name, largest=_LARGEST_OBJECT
                )
        except _FAILURES as error:
            node.message = _cause(error)
            return
        if live is None:
            node.health, node.message = Health.MISSING, "not found"
            return
        if not kind.namespaced:
            node.namespace = ""
        _describe(node, {**live, "kind": obj.kind})
        if uid := _text(mapping(live.get("metadata")).get("uid")):
            self._nodes[uid] = node

    async def _list(self, listing: _List) -> None:
        kind = WORKLOADS[listing.kind]
        try:
            async with self._places:
                async for item in self._client.list_kind(kind, namespace=listing.namespace, selector=listing.selector):
                    self._listed += 1
                    if self._listed > _MOST_LISTED:
                        self._note(listing, f"only the first {_MOST_LISTED} objects were looked at")
                        return
                    self._keep({**item, "apiVersion": kind.group_version, "kind": listing.kind}, listing)
        except _FAILURES as error:
            self._note(listing, _cause(error))

    def _keep(self, live: Object, listing: _List) -> None:
        """Keep a node of the object, if it has an owner."""
        metadata = mapping(live.get("metadata"))
        uid, owner = _text(metadata.get("uid")), _text(owner_reference(live).get("uid"))
        if not uid or not owner:
            return
        if self._kept >= _MOST_OWNED:
            self._note(listing, f"more than {_MOST_OWNED} objects are left out")
            return
        self._kept += 1
        node = TreeNode(
            _text(live["apiVersion"]),
            listing.kind,
            listing.namespace,
            _text(metadata.get("name")),
            Health.UNKNOWN,
        )
        _describe(node, live)
        self._owned.setdefault(owner, []).append((uid, node))

    def _grow(self, node: TreeNode, uid: str, taken: set[str], *, depth: int) -> None:
        """Put below the node what it owns; each object is in the tree once, so that rings end."""
        for child_uid, child in sorted(self._owned.get(uid, ()), key=lambda one: (one[1].kind, one[1].name)):
            if child_uid not in taken and depth < _DEEPEST:
                taken.add(child_uid)
                node.children.append(child)
                self._grow(child, child_uid, taken, depth=depth + 1)

    def _note(self, wanted: _List, cause: str) -> None:
        self._problems[f"{wanted.kind} objects of namespace {wanted.namespace!r}: {cause}"] = None


def _lists(objects: Iterable[ManifestObject]) -> Iterator[_List]:
    """Yield each list that is needed to find what the objects own, once."""
    needed = dict.fromkeys(each for obj in objects for each in _lists_of(obj))
    everything = {(listing.kind, listing.namespace) for listing in needed if not listing.selector}
    for listing in needed:
        if not listing.selector or (listing.kind, listing.namespace) not in everything:
            yield listing


def _lists_of(obj: ManifestObject) -> Iterator[_List]:
    if obj.kind == "CronJob":
        yield _List("Job", obj.namespace, "")
        yield _List(_PODS, obj.namespace, _OF_JOBS)
        return
    kinds: Iterable[str] = _SELECTED.get(obj.kind, ())
    selector = ",".join(f"{key}={value}" for key, value in obj.selector)
    if obj.kind == "Job" and not selector:
        selector = f"{_OF_JOBS}={obj.name}"
    if not kinds and _is_foreign(obj.api_version):
        kinds = WORKLOADS
    for kind in kinds:
        yield _List(kind, obj.namespace, selector)


def _is_foreign(api_version: str) -> bool:
    """Return True for groups that Kubernetes does not define itself."""
    group, slash, _ = api_version.rpartition("/")
    return bool(slash) and "." in group and not group.endswith(".k8s.io")


def _node(obj: ManifestObject, health: Health, message: str) -> TreeNode:
    return TreeNode(obj.api_version, obj.kind, obj.namespace, obj.name, health, message)


def _describe(node: TreeNode, live: Object) -> None:
    node.health, message = health_of(live)
    node.message = message[:_LONGEST_MESSAGE]
    counted = _ready_containers(live) if node.kind == _PODS else replicas(live)
    if counted is not None:
        node.ready, node.wanted = counted
    node.images = _images(live)
    created = mapping(live.get("metadata")).get("creationTimestamp")
    node.created_at = created[:_LONGEST_TIME] if isinstance(created, str) else ""


def _ready_containers(pod: Object) -> tuple[int, int]:
    wanted, found = mapping(pod.get("spec")).get("containers"), mapping(pod.get("status")).get("containerStatuses")
    ready = [status for status in found if mapping(status).get("ready") is True] if isinstance(found, list) else []
    return len(ready), len(wanted) if isinstance(wanted, list) else 0


def _images(live: Object) -> list[str]:
    """Return the images of the object's own pod or pod template, each once."""
    spec = mapping(live.get("spec"))
    for key in ("jobTemplate", "template"):
        if isinstance(spec.get(key), dict):
            spec = mapping(spec[key].get("spec"))
    found: dict[str, None] = {}
    for key in ("initContainers", "containers"):
        listed = spec.get(key)
        for entry in listed if isinstance(listed, list) else ():
            if image := _text(mapping(entry).get("image"), longest=_LONGEST_IMAGE):
                found[image] = None
    return list(found)[:_MOST_IMAGES]


def owner_reference(live: Object) -> Object:
    """Return the reference to the object's controller, or to its first owner; empty for none."""
    found = mapping(live.get("metadata")).get("ownerReferences")
    owners = [mapping(owner) for owner in found] if isinstance(found, list) else []
    return next((owner for owner in owners if owner.get("controller") is True), owners[0] if owners else {})


def _text(value: object, *, longest: int = _LONGEST_NAME) -> str:
    return value[:longest] if isinstance(value, str) else ""


def _cause(failure: Exception) -> str:
    return "left out: too large" if isinstance(failure, AnswerTooLarge) else str(failure)[:_LONGEST_MESSAGE]

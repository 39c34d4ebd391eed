"""Objects of a manifest beside what the cluster has: as they are, and as an apply of the manifest would leave them.

The second comes from the API server itself, by a server-side apply that is only tried (dry run): so what it defaults,
converts or decides by admission is the same in both, and differs in neither. Two requests for each object, three for
one of which others manage fields; lists of many objects of a kind spare one.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, TypeVar

import orjson

from pilothouse.errors import Busy, ClusterDenied, ClusterUnavailable, InvalidRequest
from pilothouse.kubernetes.client import ClusterClient, ObjectKind
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.readiness import mapping
from pilothouse.kubernetes.refusals import FieldConflict, Refused
from pilothouse.kubernetes.resources import ManifestObject
from pilothouse.kubernetes.transport import AnswerTooLarge

_AT_ONCE: Final = 8
#: So many of one kind and namespace are read by a list of what Helm has made there.
_MANY: Final = 8
_BY_HELM: Final = "app.kubernetes.io/managed-by=Helm"
#: For each object that is wanted; others of the namespace are other releases'.
_MOST_LISTED: Final = 4
#: Of lists, kept at a time; what does not fit is read one by one.
_LARGEST_LISTED: Final = 8 * 1024 * 1024
MOST_OBJECTS: Final = 1000
_LARGEST_OBJECT: Final = 2 * 1024 * 1024
#: Of an admission webhook that takes no dry runs: what it says of an apply is not known then.
_UNTRIED: Final = "does not support dry run"
#: What is missing when an object is tried alone may be made before it, such as the service account of a Pod.
_NOT_YET: Final = "not found"
_TOO_LATE: Final = "the cluster did not answer in time"
_FAILURES: Final = (ClusterDenied, ClusterUnavailable, InvalidRequest, Busy)
#: What the API server keeps of an object for itself.
_BOOKKEEPING: Final = frozenset(
    {"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"}
)

Object = dict[str, Any]
Part = tuple[ManifestObject, Object]
_Group = tuple[str, str, str]
Judgement = TypeVar("Judgement")


@dataclass(frozen=True)
class ReleaseOwner:
    """The release that objects belong to, by the labels and annotations that Helm gives them."""

    name: str
    namespace: str

    def mark(self, document: Object) -> Object:
        """Return the document as Helm applies it."""
        metadata = mapping(document.get("metadata"))
        labels = {**mapping(metadata.get("labels")), "app.kubernetes.io/managed-by": "Helm"}
        annotations = {
            **mapping(metadata.get("annotations")),
            "meta.helm.sh/release-name": self.name,
            "meta.helm.sh/release-namespace": self.namespace,
        }
        return {**document, "metadata": {**metadata, "labels": labels, "annotations": annotations}}


@dataclass(frozen=True)
class LiveState:
    """An object of a manifest: ``live`` as it is now, None if missing; ``applied`` as an apply would leave it.

    With a ``problem``, which says why, what is None is not known. Without ``create`` a missing object is not tried.
    ``conflicts``: fields of others that the apply changes by force, if they are asked for. ``refused``: the API server
    would not take the object, which is its problem then.
    """

    obj: ManifestObject
    document: Object = field(repr=False)
    live: Object | None = field(repr=False)
    applied: Object | None = field(repr=False)
    problem: str = ""
    conflicts: tuple[FieldConflict, ...] = ()
    refused: bool = False


#: Called with each state, outside the event loop; what it returns is kept, the state is not.
Judge = Callable[[LiveState], Judgement]


class LiveStates(Generic[Judgement]):
    """Read the states of objects from one cluster, in at most ``seconds``."""

    def __init__(
        self,
        client: ClusterClient,
        judge: Judge[Judgement],
        *,
        owner: ReleaseOwner,
        seconds: float,
        create: bool = False,
        find_conflicts: bool = False,
        lists: bool = False,
        new_namespaces: frozenset[str] = frozenset(),
    ) -> None:
        """``create``: missing objects are tried, too; ``find_conflicts``: each apply is tried without force first.

        ``new_namespaces``: what is made before the objects, which the API server refuses until then.
        ``lists``: many objects of a kind are read by a list, which is faster but may be of more than is wanted.
        """
        self._client = client
        self._judge = judge
        self._owner = owner
        self._seconds = seconds
        self._create = create
        self._find_conflicts = find_conflicts
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._may_list = lists
        self._new_namespaces = new_namespaces
        self._lists: dict[_Group, asyncio.Task[dict[str, Object]]] = {}
        self._room = _LARGEST_LISTED

    async def read(self, parts: Sequence[Part], kinds: KindCache | None = None) -> list[Judgement]:
        """Return what the judge makes of each object, in the manifest's order.

        What was not read in time, or is over the limit, has a problem. Raises CallerGone, and what the judge raises.
        """
        kinds = kinds or KindCache(self._client, only=frozenset(obj.kind for obj, _ in parts))
        read = parts[:MOST_OBJECTS]
        for group, names in _many(read).items() if self._may_list else ():
            self._lists[group] = asyncio.create_task(self._list(group, names, kinds))
        tasks = [asyncio.create_task(self._look(obj, document, kinds)) for obj, document in read]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self._seconds, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            running = [*tasks, *self._lists.values()]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return [
            self._judge(LiveState(obj, document, None, None, _TOO_LATE)) if task.cancelled() else task.result()
            for (obj, document), task in zip(read, tasks, strict=True)
        ] + [
            self._judge(LiveState(obj, document, None, None, f"left out: more than {MOST_OBJECTS} objects"))
            for obj, document in parts[MOST_OBJECTS:]
        ]

    async def _look(self, obj: ManifestObject, document: Object, kinds: KindCache) -> Judgement:
        async with self._places:
            state = await self._read(obj, document, kinds)
            return await asyncio.to_thread(self._judge, state)

    async def _read(self, obj: ManifestObject, document: Object, kinds: KindCache) -> LiveState:
        live = None
        try:
            kind = await kinds.find(obj.api_version, obj.kind)
            if kind is None:
                problem = f"the cluster does not serve {obj.api_version} {obj.kind}"
                return LiveState(obj, document, None, None, problem)
            live = await self._find_live(kind, obj)
            if live is None and not self._create:
                return LiveState(obj, document, None, None)
            applied, conflicts = await self._apply(kind, obj, self._owner.mark(document))
        except Refused as error:
            # of a Secret it may hold what the Secret holds
            said = "" if obj.kind == "Secret" else f": {error}"
            refused = not any(words in str(error) for words in (_UNTRIED, _NOT_YET))
            return LiveState(obj, document, live, None, f"an apply would be refused{said}", refused=refused)
        except _FAILURES as error:
            problem = "left out: too large" if isinstance(error, AnswerTooLarge) else str(error)
            return LiveState(obj, document, live, None, problem)
        except orjson.JSONEncodeError:
            return LiveState(obj, document, live, None, "left out: it is nested too deep, or has numbers beyond JSON's")
        return LiveState(obj, document, live, applied, conflicts=conflicts)

    async def _find_live(self, kind: ObjectKind, obj: ManifestObject) -> Object | None:
        listing = self._lists.get(_group(obj))
        listed = (await asyncio.shield(listing)).pop(obj.name, None) if listing is not None else None
        if listed is not None:
            return listed
        return await self._client.find_object(kind, namespace=obj.namespace, name=obj.name, largest=_LARGEST_OBJECT)

    async def _list(self, group: _Group, names: set[str], kinds: KindCache) -> dict[str, Object]:
        """Return the live objects of these names that a list has; without a list, none: they are read one by one."""
        api_version, kind_name, namespace = group
        found: dict[str, Object] = {}
        try:
            kind = await kinds.find(api_version, kind_name)
            if kind is None:
                return found
            left = _MOST_LISTED * len(names)
            async for item in self._client.list_kind(kind, namespace=namespace, selector=_BY_HELM):
                left -= 1
                if (name := str(mapping(item.get("metadata")).get("name"))) in names:
                    self._room -= len(orjson.dumps(item))
                    found[name] = {"apiVersion": api_version, "kind": kind_name, **item}
                if left < 0 or self._room < 0:
                    break
        except (*_FAILURES, orjson.JSONEncodeError):
            return found
        return found

    async def _apply(
        self, kind: ObjectKind, obj: ManifestObject, document: Object
    ) -> tuple[Object, tuple[FieldConflict, ...]]:
        """Return what an apply would leave, and which fields of others it would take over."""
        tried = partial(
            self._client.try_apply,
            kind,
            namespace=obj.namespace,
            name=obj.name,
            body=document,
            largest=_LARGEST_OBJECT,
        )
        try:
            return await tried(force=not self._find_conflicts), ()
        except Refused as error:
            if error.missing_namespace in self._new_namespaces:
                return document, ()
            if not error.conflicts:
                raise
            conflicts = error.conflicts
        return await tried(), conflicts


def _group(obj: ManifestObject) -> _Group:
    return obj.api_version, obj.kind, obj.namespace


def _many(parts: Sequence[Part]) -> dict[_Group, set[str]]:
    """Return the names of the objects of which there are many of one kind and namespace."""
    names: dict[_Group, set[str]] = {}
    for obj, _ in parts:
        names.setdefault(_group(obj), set()).add(obj.name)
    return {group: found for group, found in names.items() if len(found) >= _MANY}


def comparable(found: Object) -> Object:
    """Return the object without its status and what the API server keeps of it for itself."""
    metadata = {key: value for key, value in mapping(found.get("metadata")).items() if key not in _BOOKKEEPING}
    return {key: value for key, value in found.items() if key != "status"} | {"metadata": metadata}

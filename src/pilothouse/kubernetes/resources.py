"""The live objects of a release, grouped as ``helm status`` groups them (3.11 to 3.x: with ``--show-resources``).

Groups are ``version/Kind`` with the version from the manifest, and ``v1/Pod(related)``, which holds a PodList for each
selector of the manifest's workloads. An object that cannot be shown is in its group with its name and an ``error``.
Secret data is masked, and ``managedFields`` are omitted. Source: Helm ``pkg/kube/client.go``, ``Get``.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from pilothouse.errors import Busy, ClusterDenied, ClusterUnavailable, InvalidRequest
from pilothouse.kubernetes.budget import keep
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.in_time import gather_in_time
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.transport import AnswerTooLarge

RELATED_PODS = "v1/Pod(related)"

_AT_ONCE = 4
_MOST_OBJECTS = 500
_MOST_PODS = 200
_LARGEST_OBJECT = 2 * 1024 * 1024
_LARGEST_TOTAL = 4 * 1024 * 1024
_LARGEST_PODS = 8 * 1024 * 1024
#: How often it is in memory until the answer is sent: alone, in the whole, as a string in the answer, and in its bytes.
_COPIES = 4
_SELECTING = frozenset({"ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job"})
_LONGEST_NAME = 253
_MASK = "******"
_TOO_LATE = "the cluster did not answer in time"
_FAILURES = (ClusterDenied, ClusterUnavailable, InvalidRequest, Busy)

Object = dict[str, Any]


@dataclass(frozen=True)
class ManifestObject:
    """One object named by a manifest; ``selector``: labels of its pods, empty for none."""

    api_version: str
    kind: str
    namespace: str
    name: str
    selector: tuple[tuple[str, str], ...] = ()

    @property
    def group(self) -> str:
        """The group that it is shown in."""
        return f"{self.api_version.rpartition('/')[2]}/{self.kind}"


def manifest_objects(documents: Sequence[Object], *, namespace: str) -> list[ManifestObject]:
    """Return the objects of a manifest's documents, lists expanded; ``namespace`` is the default."""
    return [obj for obj, _ in manifest_parts(documents, namespace=namespace)]


def manifest_parts(documents: Sequence[Object], *, namespace: str) -> list[tuple[ManifestObject, Object]]:
    """Return the same, each with its document."""
    found: list[tuple[ManifestObject, Object]] = []
    for document in documents:
        metadata = document.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        kind, items = str(document.get("kind", "")), document.get("items")
        if kind.endswith("List") and isinstance(items, list):
            found += manifest_parts([item for item in items if isinstance(item, dict)], namespace=namespace)
        elif kind and isinstance(metadata.get("name"), str):
            obj = ManifestObject(
                api_version=str(document.get("apiVersion", "")),
                kind=kind,
                namespace=str(metadata.get("namespace") or namespace),
                name=metadata["name"],
                selector=_selector(document),
            )
            found.append((obj, document))
    return found


class LiveObjects:
    """Look up objects in one cluster, in at most ``seconds`` for all of them together.

    Results are kept as JSON text, at most ``_LARGEST_TOTAL`` bytes: as Python objects they would need several times
    that.
    """

    def __init__(
        self, client: ClusterClient, *, seconds: float, hide: Callable[[Object], Object] | None = None
    ) -> None:
        """``hide`` is applied to each object before it is kept, in a thread."""
        self._client = client
        self._hide = hide
        self._seconds = seconds
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._room = _LARGEST_TOTAL

    async def read(self, objects: Sequence[ManifestObject]) -> bytes:
        """Return every object by group as JSON text, in the manifest's order, with its pods.

        Those over the limits say so.
        """
        selected = objects[:_MOST_OBJECTS]
        selectors = {(obj.namespace, obj.selector): None for obj in selected if obj.selector}
        kinds = KindCache(self._client, only=frozenset(obj.kind for obj in selected))
        found = await self._all(
            [self._find(obj, kinds) for obj in selected],
            [self._pods(*selector) for selector in selectors],
        )
        groups: dict[str, list[orjson.Fragment]] = {}
        for obj, text in zip(selected, found[: len(selected)], strict=True):
            groups.setdefault(obj.group, []).append(orjson.Fragment(text or _stub(obj, _TOO_LATE)))
        for obj in objects[_MOST_OBJECTS:]:
            text = _stub(obj, f"left out: more than {_MOST_OBJECTS} objects")
            groups.setdefault(obj.group, []).append(orjson.Fragment(text))
        if selectors:
            groups[RELATED_PODS] = [
                orjson.Fragment(text or _pod_list([], error=_TOO_LATE)) for text in found[len(selected) :]
            ]
        return orjson.dumps(groups, option=orjson.OPT_SORT_KEYS)

    async def _all(self, *work: Sequence[Coroutine[Any, Any, bytes]]) -> list[bytes]:
        """Return the results of all work; nothing for what is not done in time."""
        tasks = await gather_in_time(chain(*work), seconds=self._seconds)
        return [b"" if task.cancelled() else task.result() for task in tasks]

    async def _find(self, obj: ManifestObject, kinds: KindCache) -> bytes:
        try:
            kind = await kinds.find(obj.api_version, obj.kind)
            if kind is None:
                return _stub(obj, f"the cluster does not serve {obj.api_version} {obj.kind}")
            async with self._places:
                live = await self._client.find_object(
                    kind, namespace=obj.namespace, name=obj.name, largest=_LARGEST_OBJECT
                )
            return await self._kept(without_secret_data(live)) if live is not None else _stub(obj, "not found")
        except _FAILURES as error:
            return _stub(obj, _cause(error))

    async def _pods(self, namespace: str, selector: tuple[tuple[str, str], ...]) -> bytes:
        try:
            async with self._places:
                pods = await self._client.list_pods(
                    namespace=namespace, labels=dict(selector), limit=_MOST_PODS, largest=_LARGEST_PODS
                )
            return _pod_list([orjson.Fragment(await self._kept(without_secret_data(pod))) for pod in pods])
        except _FAILURES as error:
            return _pod_list([], error=_cause(error))

    async def _kept(self, member: Object) -> bytes:
        """Return the member as JSON text; beyond the total size only its name."""
        try:
            text = orjson.dumps(member)
        except orjson.JSONEncodeError:  # nested deeper than it is written
            return _named(member, "left out: nested too deep")
        if self._hide is not None and len(text) <= self._room:
            text = await asyncio.to_thread(_hidden, member, self._hide)
        if len(text) > self._room:
            return _named(member, f"left out: the answer would be over {_LARGEST_TOTAL} bytes")
        try:
            keep(_COPIES * len(text))
        except Busy as error:
            return _named(member, f"left out: {error}")
        self._room -= len(text)
        return text


def _selector(document: Object) -> tuple[tuple[str, str], ...]:
    spec = document.get("spec")
    selector = spec.get("selector") if isinstance(spec, dict) else None
    if document.get("kind") in _SELECTING:
        selector = selector.get("matchLabels") if isinstance(selector, dict) else None
    elif document.get("kind") != "ReplicationController":
        return ()
    if not isinstance(selector, dict) or not all(isinstance(value, str) for value in selector.values()):
        return ()
    return tuple(sorted(selector.items()))


def _pod_list(pods: Sequence[orjson.Fragment], *, error: str = "") -> bytes:
    listed = {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": pods}
    return orjson.dumps(listed | ({"error": error} if error else {}))


def _cause(failure: Exception) -> str:
    return "left out: too large" if isinstance(failure, AnswerTooLarge) else str(failure)


def _stub(obj: ManifestObject, error: str) -> bytes:
    metadata = {"name": obj.name} | ({"namespace": obj.namespace} if obj.namespace else {})
    return orjson.dumps({"apiVersion": obj.api_version, "kind": obj.kind, "metadata": metadata, "error": error})


def without_secret_data(live: Object) -> Object:
    """Return the object without managedFields and, if it is a Secret, with its data masked."""
    metadata = live.get("metadata")
    if isinstance(metadata, dict):
        metadata = {key: value for key, value in metadata.items() if key != "managedFields"}
        live = live | {"metadata": metadata}
    if live.get("kind") != "Secret":
        return live
    annotations = (metadata or {}).get("annotations")
    if isinstance(annotations, dict):
        applied = "kubectl.kubernetes.io/last-applied-configuration"
        kept = {key: _MASK if key == applied else value for key, value in annotations.items()}
        live = live | {"metadata": (metadata or {}) | {"annotations": kept}}
    for field in ("data", "stringData"):
        if isinstance(live.get(field), dict):
            live = live | {field: dict.fromkeys(live[field], _MASK)}
    return live


def _hidden(member: Object, hide: Callable[[Object], Object]) -> bytes:
    return orjson.dumps(hide(member))


def _named(member: Object, error: str) -> bytes:
    metadata = member.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    named = {key: str(metadata[key])[:_LONGEST_NAME] for key in ("name", "namespace") if key in metadata}
    kind = {key: str(member.get(key))[:_LONGEST_NAME] for key in ("apiVersion", "kind")}
    return orjson.dumps({**kind, "metadata": named, "error": error})

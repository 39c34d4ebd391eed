"""The live objects of a release, grouped as ``helm status`` groups them (3.11 to 3.x: with ``--show-resources``).

Groups are ``version/Kind`` with the version as the manifest has it, and ``v1/Pod(related)``, which holds a PodList for
each selector of the manifest's workloads. An object that cannot be shown stands in its group with its name and an
``error``. What is secret about Secrets is masked, and ``managedFields`` are left out. Source: Helm
``pkg/kube/client.go``, ``Get``.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pilothouse.cluster.client import ClusterClient, ObjectKind
from pilothouse.cluster.transport import AnswerTooLarge
from pilothouse.errors import ClusterDenied, ClusterUnavailable, InvalidRequest

RELATED_PODS = "v1/Pod(related)"

_AT_ONCE = 8
_MOST_OBJECTS = 500
_MOST_PODS = 200
_LARGEST_OBJECT = 2 * 1024 * 1024
_LARGEST_TOTAL = 8 * 1024 * 1024
_SELECTING = frozenset({"ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job"})
_MASK = "******"

Object = dict[str, Any]


@dataclass(frozen=True)
class ManifestObject:
    """One object as a manifest names it; ``selector``: labels of the pods that belong to it, empty for none."""

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
    """The objects of a manifest's documents, lists taken apart; ``namespace`` is that of those which name none."""
    return [one for one, _ in manifest_parts(documents, namespace=namespace)]


def manifest_parts(documents: Sequence[Object], *, namespace: str) -> list[tuple[ManifestObject, Object]]:
    """The same, each with its document."""
    found: list[tuple[ManifestObject, Object]] = []
    for document in documents:
        metadata = document.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        kind, items = str(document.get("kind", "")), document.get("items")
        if kind.endswith("List") and isinstance(items, list):
            found += manifest_parts([item for item in items if isinstance(item, dict)], namespace=namespace)
        elif kind and isinstance(metadata.get("name"), str):
            one = ManifestObject(
                api_version=str(document.get("apiVersion", "")),
                kind=kind,
                namespace=str(metadata.get("namespace") or namespace),
                name=metadata["name"],
                selector=_selector(document),
            )
            found.append((one, document))
    return found


class LiveObjects:
    """Looks objects up in one cluster, in at most ``seconds`` for all of them together."""

    def __init__(self, client: ClusterClient, *, seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._kinds: dict[str, asyncio.Task[dict[str, ObjectKind]]] = {}

    async def read(self, objects: Sequence[ManifestObject]) -> dict[str, list[Object]]:
        """Every object by group, in the manifest's order, with its pods; those over the limits say so."""
        wanted = objects[:_MOST_OBJECTS]
        selectors = {(one.namespace, one.selector): None for one in wanted if one.selector}
        found = await self._all([self._find(one) for one in wanted], [self._pods(*selector) for selector in selectors])
        groups: dict[str, list[Object]] = {}
        for one, answer in zip(wanted, found[: len(wanted)], strict=True):
            groups.setdefault(one.group, []).append(_shown(one, answer))
        for one in objects[_MOST_OBJECTS:]:
            groups.setdefault(one.group, []).append(_stub(one, f"left out: more than {_MOST_OBJECTS} objects"))
        if selectors:
            groups[RELATED_PODS] = [_pod_list(answer) for answer in found[len(wanted) :]]
        return _bounded(groups)

    async def _all(self, *work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """What each gives, or the failure that it ended with; what is not done in time has timed out."""
        tasks = [asyncio.create_task(one) for some in work for one in some]
        if tasks:
            await asyncio.wait(tasks, timeout=self._seconds)
        left = [task for task in [*tasks, *self._kinds.values()] if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, *self._kinds.values(), return_exceptions=True)
        return [TimeoutError() if task.cancelled() else task.exception() or task.result() for task in tasks]

    async def _find(self, one: ManifestObject) -> Object | None:
        if one.api_version not in self._kinds:
            self._kinds[one.api_version] = asyncio.create_task(self._client.list_kinds(one.api_version))
        kind = (await asyncio.shield(self._kinds[one.api_version])).get(one.kind)
        if kind is None:
            raise InvalidRequest(f"the cluster does not serve {one.api_version} {one.kind}")
        async with self._places:
            return await self._client.find_object(kind, namespace=one.namespace, name=one.name, largest=_LARGEST_OBJECT)

    async def _pods(self, namespace: str, selector: tuple[tuple[str, str], ...]) -> list[Object]:
        async with self._places:
            return await self._client.list_pods(
                namespace=namespace, labels=dict(selector), limit=_MOST_PODS, largest=_LARGEST_TOTAL
            )


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


def _shown(one: ManifestObject, answer: object) -> Object:
    if isinstance(answer, dict):
        return _masked(answer)
    return _stub(one, "not found" if answer is None else _cause(answer))


def _pod_list(answer: object) -> Object:
    pods = {"apiVersion": "v1", "kind": "PodList", "metadata": {}}
    if isinstance(answer, list):
        return pods | {"items": [_masked(pod) for pod in answer]}
    return pods | {"items": [], "error": _cause(answer)}


def _cause(failure: object) -> str:
    if isinstance(failure, TimeoutError):
        return "the cluster did not answer in time"
    if isinstance(failure, AnswerTooLarge):
        return "left out: too large"
    if isinstance(failure, ClusterDenied | ClusterUnavailable | InvalidRequest):
        return str(failure)
    raise failure if isinstance(failure, BaseException) else TypeError(type(failure))


def _stub(one: ManifestObject, error: str) -> Object:
    metadata = {"name": one.name} | ({"namespace": one.namespace} if one.namespace else {})
    return {"apiVersion": one.api_version, "kind": one.kind, "metadata": metadata, "error": error}


def _masked(live: Object) -> Object:
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


def _bounded(groups: dict[str, list[Object]]) -> dict[str, list[Object]]:
    """What is over the total size keeps its name only."""
    total = 0
    bounded: dict[str, list[Object]] = {}
    for group, members in groups.items():
        bounded[group] = []
        for member in members:
            total += len(orjson.dumps(member))
            bounded[group].append(member if total <= _LARGEST_TOTAL else _named(member))
    return bounded


def _named(member: Object) -> Object:
    metadata = member.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return {
        "apiVersion": member.get("apiVersion"),
        "kind": member.get("kind"),
        "metadata": {key: metadata[key] for key in ("name", "namespace") if key in metadata},
        "error": f"left out: the answer would be over {_LARGEST_TOTAL} bytes",
    }

"""Drift: what the cluster has that a revision does not say.

Each object of the manifest is compared as it is with what a tried apply of the manifest would make of it, so that
nothing counts that the API server defaulted. To that come fields that somebody set beside the manifest, as
``kubectl edit`` does, and objects that bear the release's mark and are not in the manifest. Not counted: fields whose
owners are controllers, such as the replicas that an autoscaler sets, and what the release's ignore rules cover.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

import orjson

from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import Busy, ClusterDenied, ClusterUnavailable, CorruptRelease, InvalidChart, InvalidRequest
from pilothouse.kubernetes.client import ClusterClient, ObjectKind
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.managed_fields import FieldOwners, applied_fields
from pilothouse.kubernetes.readiness import mapping
from pilothouse.kubernetes.resources import ManifestObject, manifest_parts, without_secret_data
from pilothouse.redaction import Masks
from pilothouse.services.releases.ignore_rules import IgnoreRule, ObjectRules, split_pointer
from pilothouse.services.releases.live_states import LiveState, LiveStates, Object, ReleaseOwner, comparable
from pilothouse.services.releases.manifest_diff import CHANGES, FieldDifference, ObjectDifference, compare_fields
from pilothouse.services.releases.masking import LARGEST_MANIFEST, hide_in_object, refuse_too_large
from pilothouse.states import ReleaseStatus
from pilothouse.store import drift as store
from pilothouse.store.database import Transaction

SECONDS: Final = 30.0
#: Of what differs, as JSON text, over all objects.
_LARGEST_DIFFERENCES: Final = 4 * 1024 * 1024
_MOST_FIELDS: Final = 2000
_MOST_EXTRA: Final = 200
_MOST_LISTED: Final = 2000
_FAILURES: Final = (ClusterDenied, ClusterUnavailable, InvalidRequest, Busy)
#: What a release leaves behind is looked for among these kinds, and those of its manifest.
_USUAL_KINDS: Final = (
    ObjectKind("v1", "configmaps", namespaced=True),
    ObjectKind("v1", "secrets", namespaced=True),
    ObjectKind("v1", "services", namespaced=True),
    ObjectKind("apps/v1", "deployments", namespaced=True),
    ObjectKind("apps/v1", "statefulsets", namespaced=True),
)
_KIND_NAMES: Final = {
    "configmaps": "ConfigMap",
    "secrets": "Secret",
    "services": "Service",
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
}
_BY_HELM: Final = "app.kubernetes.io/managed-by=Helm"


@dataclass(frozen=True)
class Drift:
    """The objects of a revision and the live ones, compared; ``problems``: what was not looked at, and why.

    ``failed``: the revision failed, so that an object that is not there may never have been created, which is no drift.
    """

    revision: int
    objects: list[ObjectDifference] = field(repr=False)
    problems: list[str]
    failed: bool = False

    @property
    def summary(self) -> dict[str, int]:
        """Return how many objects there are of each change."""
        counted = Counter(difference.change for difference in self.objects)
        return {word: counted[word] for word in CHANGES}

    @property
    def is_drifted(self) -> bool:
        """True if the cluster has anything that the revision does not say."""
        counted = self.summary
        return counted["added"] + counted["changed"] + counted["removed"] > self.missing

    @property
    def missing(self) -> int:
        """Return how many objects of a failed revision are not there."""
        return self.summary["removed"] if self.failed else 0

    @property
    def blind(self) -> str:
        """Return why the look tells nothing, if none of it could be compared; else nothing.

        Without the problems themselves, which may quote values: this is kept, and shown to whoever may see the release.
        """
        if any(difference.change != "unknown" for difference in self.objects) or not (self.objects or self.problems):
            return ""
        return f"nothing could be compared: no object of revision {self.revision} could be read"


async def find_drift(
    client: ClusterClient,
    stored: StoredRelease,
    rules: Sequence[IgnoreRule],
    *,
    masks: Masks | None = None,
    kinds: KindCache | None = None,
    seconds: float = SECONDS,
) -> Drift:
    """Return how the cluster differs from the revision; what is not read within ``seconds`` is unknown.

    Data of Secrets is masked, and with ``masks`` all values. Raises
    CorruptRelease for an unreadable manifest, and InvalidRequest for one that is too large.
    """
    parts = await _parts(stored)
    owner = ReleaseOwner(stored.name, stored.target_namespace)
    kinds = kinds or KindCache(client)
    judge = _Judge(rules, masks)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    states = LiveStates(client, judge.compare, owner=owner, seconds=seconds)
    found = await states.read(parts, kinds)
    extra, problems = [], []
    try:
        async with asyncio.timeout(max(0.1, until - loop.time())):
            extra = await _Extra(client, owner).find(parts, kinds, stored.target_namespace)
    except TimeoutError:
        problems.append("objects beside the manifest: the cluster did not answer in time")
    except _FAILURES as error:
        text = f"objects beside the manifest: {error}"
        problems.append(masks.apply(text) if masks is not None else text)
    added = [_difference(obj, "added") for obj in extra if not ObjectRules(rules, obj).ignore_all]
    return Drift(stored.revision, [*found, *added], problems, failed=stored.status == ReleaseStatus.FAILED)


async def keep_look(tx: Transaction, cluster_id: str, found: Drift, *, namespace: str, name: str) -> None:
    """Store what a look at the release found; of a blind one only that, so that the one before it still counts."""
    if found.blind:
        await store.record_problem(tx, cluster_id, namespace=namespace, name=name, problem=found.blind)
        return
    counts = found.summary
    counts["removed"] -= found.missing
    await store.record_look(tx, cluster_id, namespace=namespace, name=name, revision=found.revision, found=counts)


def deployed_or_newest(revisions: Sequence[StoredRelease]) -> StoredRelease:
    """Return the revision that is deployed, or the last if none is."""
    deployed = [stored for stored in revisions if stored.status == ReleaseStatus.DEPLOYED]
    return deployed[-1] if deployed else revisions[-1]


async def _parts(stored: StoredRelease) -> list[tuple[ManifestObject, Object]]:
    refuse_too_large(stored.manifest, of=f"revision {stored.revision}")
    try:
        documents = await asyncio.to_thread(
            read_objects, stored.manifest.encode(), file="manifest", max_bytes=LARGEST_MANIFEST
        )
    except (InvalidChart, UnicodeEncodeError) as error:
        raise CorruptRelease(f"revision {stored.revision} cannot be compared: {error}") from None
    return manifest_parts(documents, namespace=stored.target_namespace)


class _Judge:
    """Compare objects, each in a thread, within one limit for what is kept of all."""

    def __init__(self, rules: Sequence[IgnoreRule], masks: Masks | None) -> None:
        self._rules = rules
        self._masks = masks
        self._room = _LARGEST_DIFFERENCES
        self._lock = Lock()

    def compare(self, state: LiveState) -> ObjectDifference:
        """Return how the object differs from what the manifest says."""
        obj, rules = state.obj, ObjectRules(self._rules, state.obj)
        if rules.ignore_all:
            return _difference(obj, "unchanged")
        if state.problem:
            return _difference(obj, "unknown", problem=self._hidden(state.problem))
        if state.live is None or state.applied is None:
            return _difference(obj, "unchanged" if _ends_by_itself(state.document) else "removed")
        if mapping(state.live.get("metadata")).get("deletionTimestamp"):
            return _difference(obj, "removed", problem="is being deleted")
        return self._compare(obj, rules, state.live, state.applied)

    def _compare(self, obj: ManifestObject, rules: ObjectRules, live: Object, applied: Object) -> ObjectDifference:
        owners = FieldOwners(live)
        new, old = rules.without(comparable(live)), rules.without(comparable(applied))
        try:
            differing = compare_fields(obj, old, new, show=self._show)
        except InvalidRequest as error:
            return _difference(obj, "changed", problem=str(error))
        fields = [
            difference
            for difference in differing
            if _counts(difference, owners, rules, applied if difference.change == "removed" else live)
        ]
        fields += self._beside(owners, applied_fields(applied), rules, new, known={field.path for field in differing})
        if not fields:
            return _difference(obj, "unchanged")
        if len(fields) > _MOST_FIELDS or not self._has_room(fields):
            return _difference(obj, "changed", problem="left out: there are too many differences")
        return _difference(obj, "changed", fields)

    def _beside(
        self, owners: FieldOwners, stated: Object, rules: ObjectRules, live: Object, *, known: set[str]
    ) -> Iterator[FieldDifference]:
        """Yield the fields that somebody set beside the manifest."""
        shown = self._show(live)
        for path in dict.fromkeys(owners.foreign(stated)):
            pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
            if pointer not in known and not rules.covers(path, live):
                there, value = _value_at(shown, path)
                if there:
                    yield FieldDifference(pointer, "added", None, value)

    def _show(self, found: Object) -> Object:
        shown = without_secret_data(found)
        return shown if self._masks is None else hide_in_object(shown, self._masks)

    def _hidden(self, text: str) -> str:
        return self._masks.apply(text) if self._masks is not None else text

    def _has_room(self, fields: list[FieldDifference]) -> bool:
        size = len(orjson.dumps([vars(field) for field in fields]))
        with self._lock:
            fits = size <= self._room
            self._room -= size if fits else 0
        return fits


def _counts(difference: FieldDifference, owners: FieldOwners, rules: ObjectRules, holder: Object) -> bool:
    path = split_pointer(difference.path)
    if rules.covers(path, holder):
        return False
    return difference.change == "removed" or not owners.belongs_to_controllers(path)


def _ends_by_itself(document: Object) -> bool:
    """Return True for a Job that its own manifest lets disappear after its end."""
    spec = mapping(document.get("spec"))
    return document.get("kind") == "Job" and spec.get("ttlSecondsAfterFinished") is not None


def _value_at(value: Any, path: tuple[str, ...]) -> tuple[bool, Any]:
    """Return whether the path leads to something, and to what."""
    for part in path:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return False, None
    return True, value


def _difference(
    obj: ManifestObject, change: Any, fields: list[FieldDifference] | None = None, *, problem: str = ""
) -> ObjectDifference:
    return ObjectDifference(obj.api_version, obj.kind, obj.namespace, obj.name, change, fields or [], problem)


class _Extra:
    """Find objects that bear a release's mark, and are not in its manifest."""

    def __init__(self, client: ClusterClient, owner: ReleaseOwner) -> None:
        self._client = client
        self._owner = owner

    async def find(
        self, parts: Sequence[tuple[ManifestObject, Object]], kinds: KindCache, namespace: str
    ) -> list[ManifestObject]:
        """Return them, at most 200; not those that Helm was told to keep, or that another object owns."""
        known: set[tuple[str, str, str]] = set()
        lists: dict[tuple[ObjectKind, str], str] = {
            (kind, namespace): _KIND_NAMES[kind.plural] for kind in _USUAL_KINDS
        }
        for obj, _ in parts:
            kind = await kinds.find(obj.api_version, obj.kind)
            if kind is None:
                continue
            place = obj.namespace if kind.namespaced else ""
            known.add((obj.kind, place, obj.name))
            lists.setdefault((kind, place), obj.kind)
        found: dict[tuple[str, str, str], ManifestObject] = {}
        for (kind, place), name in lists.items():
            async for obj in self._list(kind, place, name):
                key = (obj.kind, obj.namespace, obj.name)
                if key not in known and len(found) < _MOST_EXTRA:
                    found[key] = obj
        return list(found.values())

    async def _list(self, kind: ObjectKind, namespace: str, name: str) -> Any:
        listed = 0
        async for item in self._client.list_kind_metadata(kind, namespace=namespace, selector=_BY_HELM):
            listed += 1
            if listed > _MOST_LISTED:
                raise ClusterUnavailable(f"there are more than {_MOST_LISTED} {kind.plural} that Helm manages")
            metadata = mapping(item.get("metadata"))
            if isinstance(metadata.get("name"), str) and self._is_ours(metadata):
                yield ManifestObject(kind.group_version, name, namespace, metadata["name"][:253])

    def _is_ours(self, metadata: Object) -> bool:
        marks = mapping(metadata.get("annotations"))
        if metadata.get("ownerReferences") or metadata.get("deletionTimestamp"):
            return False
        if str(marks.get("helm.sh/resource-policy", "")).strip().lower() == "keep":
            return False
        return (marks.get("meta.helm.sh/release-name"), marks.get("meta.helm.sh/release-namespace")) == (
            self._owner.name,
            self._owner.namespace,
        )

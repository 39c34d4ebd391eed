"""Which pods are a release's: those whose owner references lead to an object of it."""

from contextlib import suppress
from typing import Any, Final

from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import CorruptRelease, InvalidChart
from pilothouse.kubernetes.client import WORKLOADS, ClusterClient
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.object_tree import owner_reference
from pilothouse.kubernetes.readiness import mapping
from pilothouse.kubernetes.resources import ManifestObject, manifest_parts
from pilothouse.services.releases.helm_error_hints import is_owned_by
from pilothouse.services.releases.masking import LARGEST_MANIFEST

_DEEPEST: Final = 6
_LARGEST_OBJECT: Final = 2 * 1024 * 1024

Object = dict[str, Any]
Parts = list[tuple[ManifestObject, Object]]


def named_objects(stored: StoredRelease) -> tuple[Parts, Parts]:
    """Return the objects of the revision and those of its hooks, with their documents."""
    try:
        documents = read_objects(stored.manifest.encode(), file="manifest", max_bytes=LARGEST_MANIFEST)
    except (InvalidChart, UnicodeEncodeError) as error:
        raise CorruptRelease(f"the manifest of revision {stored.revision} cannot be read: {error}") from None
    hooks: list[Object] = []
    for manifest in stored.hook_manifests():
        with suppress(InvalidChart, UnicodeEncodeError):
            hooks += read_objects(manifest.encode(), file="hook", max_bytes=LARGEST_MANIFEST)
    made, hooked = (manifest_parts(some, namespace=stored.target_namespace) for some in (documents, hooks))
    return made, hooked


def _identity(api_version: str, kind: str, namespace: str, name: str) -> tuple[str, ...]:
    """Return a key that is equal for the same object, in whatever version of its group."""
    return api_version.rpartition("/")[0], kind, namespace, name


def _identity_of(obj: ManifestObject) -> tuple[str, ...]:
    return _identity(obj.api_version, obj.kind, obj.namespace, obj.name)


class OwnObjects:
    """What is a release's: a chart can name any object, so that the live one has to bear out that it is.

    Helm marks all but the objects of hooks. Those count in the release's namespace, if they were made as hooks.
    """

    def __init__(self, stored: StoredRelease, parts: list[tuple[Parts, Parts]]) -> None:
        """Take what ``named_objects`` returned of the release's revisions."""
        self._name, self._namespace = stored.name, stored.target_namespace
        self._made = {_identity_of(obj) for made, _ in parts for obj, _ in made}
        self._hooks = {_identity_of(hook) for _, hooks in parts for hook, _ in hooks}

    def has(self, api_version: str, kind: str, live: Object, *, namespace: str, name: str) -> bool:
        """Return True for an object of the release."""
        identity = _identity(api_version, kind, namespace, name)
        if identity in self._made and is_owned_by(live, name=self._name, namespace=self._namespace):
            return True
        marks = mapping(mapping(live.get("metadata")).get("annotations"))
        is_hook = "helm.sh/hook" in marks and "meta.helm.sh/release-name" not in marks
        return is_hook and identity in self._hooks and namespace == self._namespace


async def find_pod(client: ClusterClient, own: OwnObjects, *, namespace: str, name: str) -> Object | None:
    """Return the pod if it, or what it was made for, is the release's; an owner counts with its uid only."""
    kinds, api_version, kind = KindCache(client), "v1", "Pod"
    live = pod = await client.find_object(WORKLOADS["Pod"], namespace=namespace, name=name, largest=_LARGEST_OBJECT)
    for _ in range(_DEEPEST):
        if live is None:
            return None
        if own.has(api_version, kind, live, namespace=namespace, name=name):
            return pod
        owner = {key: str(value) for key, value in owner_reference(live).items()}
        api_version, kind, name = (owner.get(key, "") for key in ("apiVersion", "kind", "name"))
        served = await kinds.find(api_version, kind) if owner else None
        if served is None:
            return None
        live = await client.find_object(served, namespace=namespace, name=name, largest=_LARGEST_OBJECT)
        if live is not None and mapping(live.get("metadata")).get("uid") != owner.get("uid"):
            return None
    return None

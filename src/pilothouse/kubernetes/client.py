"""The few requests that Pilothouse makes to a cluster's API server; how they are sent: ``api_client``."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any

from pilothouse.errors import ClusterDenied, ClusterUnavailable
from pilothouse.kubernetes.api_client import ApiClient, objects_in, resource_version
from pilothouse.kubernetes.budget import Room
from pilothouse.kubernetes.paths import LONGEST_NAME, NAME, checked_name, escaped_name, group_path, secrets_path
from pilothouse.kubernetes.readiness import mapping
from pilothouse.kubernetes.refusals import Refused, read_conflicts, read_missing_namespace
from pilothouse.kubernetes.release_labels import ReleaseLabels, find_absence, list_labels
from pilothouse.kubernetes.resolver import LookUp
from pilothouse.kubernetes.transport import Transport
from pilothouse.settings import ClusterSettings

#: The kinds of one group; real ones have some tens of KiB, and many groups may be asked about at a time.
_LARGEST_DISCOVERY = 1024 * 1024
_MOST_KINDS = 1000
_MOST_CLAIMS = 100
_RELEASE_TYPE = "helm.sh/release.v1"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_BAD_REQUEST, _NOT_FOUND, _CONFLICT, _INVALID = 400, 404, 409, 422
_GROUP_VERSION = re.compile(r"([a-z0-9][-.a-z0-9]{0,252}/)?[a-z0-9]{1,63}")
#: An event holds one Secret, which Kubernetes limits to 1 MiB, or 1.4 in base64, and its metadata.
_LARGEST_EVENT = 4 * 1024 * 1024
#: Of one watch; more is a flood, and what comes then waits for the next one.
_LARGEST_WATCH = 64 * 1024 * 1024
_OWNER = "owner=helm"
_RELEASES = {"labelSelector": _OWNER, "fieldSelector": f"type={_RELEASE_TYPE}"}
#: The field manager of all that Helm applies: the engine's child has the same name as the command.
_HELM = "helm"
_OURS = {"fieldManager": "pilothouse"}

Secret = dict[str, Any]


@dataclass(frozen=True)
class ClusterVersion:
    """The API server's version, for example ``v1.36.3``."""

    version: str


@dataclass(frozen=True)
class ObjectKind:
    """Resource path and scope of a kind."""

    group_version: str
    plural: str
    namespaced: bool


SECRETS = ObjectKind("v1", "secrets", namespaced=True)
#: Pods, and what lies between them and the objects of a manifest.
WORKLOADS = {
    "Deployment": ObjectKind("apps/v1", "deployments", namespaced=True),
    "StatefulSet": ObjectKind("apps/v1", "statefulsets", namespaced=True),
    "DaemonSet": ObjectKind("apps/v1", "daemonsets", namespaced=True),
    "ReplicaSet": ObjectKind("apps/v1", "replicasets", namespaced=True),
    "Job": ObjectKind("batch/v1", "jobs", namespaced=True),
    "Pod": ObjectKind("v1", "pods", namespaced=True),
}


@dataclass(frozen=True)
class SecretPage:
    """A page of a list, and the resourceVersion of the whole list."""

    secrets: list[Secret] = field(repr=False)
    resource_version: int


class ClusterClient:
    """Send requests to one cluster as one account, each within ``answer_seconds``.

    Every method raises ClusterUnavailable or ClusterDenied; those that take names raise InvalidRequest for invalid
    Kubernetes names.
    """

    def __init__(
        self,
        kubeconfig: str,
        settings: ClusterSettings,
        *,
        room: Room | None = None,
        look_up: LookUp | None = None,
        known: bool = True,
        namespaces: Sequence[str] = (),
    ) -> None:
        """``kubeconfig`` comes from ``sanitise``; InvalidKubeconfig if TLS cannot use its certificates.

        ``room`` limits the memory for answers, and ``look_up`` finds addresses; without them, the client has its own.
        ``known``: see ``Transport``. ``namespaces``: what is asked of all namespaces is asked of each of these, because
        the account may see no others.
        """
        self.places: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._api = ApiClient(Transport(kubeconfig, settings, room=room, look_up=look_up, known=known))
        self.acts_as = self._api.transport.acts_as

    @property
    def look_up(self) -> LookUp:
        """The lookup of the server's addresses, for other connections to it."""
        return self._api.transport.look_up

    async def probe(self) -> ClusterVersion:
        """Return the version, requested as the account, both within the limit: detects a refused account at once."""
        async with self._api.transport.within_limit():
            version = (await self._api.ask("GET", "/version")).body.get("gitVersion")
            if not isinstance(version, str):
                raise ClusterUnavailable(f"{self._api.server} answered, but not as a Kubernetes API server")
            review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
            # Servers before 1.28 do not know the review and answer 404.
            await self._api.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        return ClusterVersion(version=version)

    async def find_identity(self) -> str:
        """Return the cluster's unique id, the uid of the namespace kube-system; empty if it may not be read."""
        try:
            answer = await self._api.ask("GET", "/api/v1/namespaces/kube-system")
        except ClusterDenied:
            return ""
        uid = mapping(answer.body.get("metadata")).get("uid") if answer.ok else None
        return uid[:LONGEST_NAME] if isinstance(uid, str) else ""

    def within_limit(self) -> AbstractAsyncContextManager[None]:
        """Limit all requests inside to ``answer_seconds`` together: a malicious server always has one more page."""
        return self._api.transport.within_limit()

    async def namespace_exists(self, name: str) -> bool:
        """Return True if the namespace exists and is not being deleted."""
        answer = await self._api.ask("GET", f"/api/v1/namespaces/{checked_name(name)}", taken={_NOT_FOUND})
        return answer.ok and mapping(answer.body.get("status")).get("phase") != "Terminating"

    async def list_release_labels(self, *, namespace: str, name: str, allow_stale: bool = False) -> list[ReleaseLabels]:
        """Return every revision of one release, unordered; ``allow_stale``: the older ones possibly outdated."""
        async with self.within_limit():
            return await list_labels(self._api, namespace, name, allow_stale=allow_stale)

    async def find_absence(self, *, namespace: str, name: str, seen_at: str = "") -> int | None:
        """Return the resourceVersion at which the release has no Secret; None if it has one.

        ``seen_at`` is a resourceVersion at which it had one, which can spare the server some work.
        """
        return await find_absence(self._api, namespace, name, seen_at=seen_at)

    async def find_release_secret(
        self, *, namespace: str, name: str, revision: int, allow_stale: bool = False
    ) -> Secret | None:
        """Return the Secret of one revision, None if there is none.

        ``allow_stale``: allow the API server's cache, which may be slightly outdated and is cheaper.
        """
        path = f"{secrets_path(namespace)}/sh.helm.release.v1.{checked_name(name)}.v{revision:d}"
        answer = await self._api.ask(
            "GET", path, params={"resourceVersion": "0"} if allow_stale else None, taken={_NOT_FOUND}
        )
        return answer.body if answer.ok else None

    async def list_release_secrets(
        self, *, namespace: str | None = None, name: str | None = None, superseded: bool = True
    ) -> AsyncIterator[Secret]:
        """Yield Helm's Secrets page by page, so that memory is bounded by what the caller keeps.

        The newest revision of a release is never ``superseded``: without those, a list of releases is much smaller.
        """
        selector = _OWNER + (f",name={checked_name(name)}" if name else "")
        selector += "" if superseded else ",status!=superseded"
        params = {"labelSelector": selector, "fieldSelector": f"type={_RELEASE_TYPE}"}
        for place in self.places if namespace is None else (namespace,):
            async for item in self._api.list_objects(secrets_path(place), params):
                yield item

    async def list_release_pages(self) -> AsyncGenerator["SecretPage", None]:
        """Yield all of Helm's Secrets of the cluster, each page with the resourceVersion that all so far are as of.

        Several namespaces are not one snapshot, and the first is the oldest. Raises ListExpired if the server no longer
        has a snapshot: start again.
        """
        oldest = None
        for place in self.places:
            async for page in self._api.list_pages(secrets_path(place), _RELEASES):
                version = resource_version(page.metadata)
                oldest = version if oldest is None else min(oldest, version)
                yield SecretPage(page.items, oldest)

    async def newest_resource_version(self) -> int:
        """Return the cluster's current resourceVersion; one request, without payloads."""
        params = _RELEASES | {"labelSelector": f"{_OWNER},{_OWNER.replace('=', '!=')}", "limit": "1"}
        answer = await self._api.ask("GET", secrets_path(self.places[0]), params=params, accept=_METADATA_ONLY)
        return resource_version(answer.body.get("metadata"))

    async def watch_release_secrets(
        self, namespace: str | None, *, since: int, window_seconds: int, idle_seconds: float
    ) -> AsyncGenerator[list[bytes], None]:
        """Yield lines of a watch over Helm's Secrets (None: everywhere) for ``window_seconds``; see ``watch``."""
        params = _RELEASES | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(since),
            "timeoutSeconds": str(window_seconds),
        }
        async with self._api.counted():
            lines = self._api.transport.stream(
                secrets_path(namespace),
                params=params,
                idle_seconds=idle_seconds,
                seconds=idle_seconds,
                largest_line=_LARGEST_EVENT,
                largest=_LARGEST_WATCH,
            )
            async with aclosing(lines):
                async for some in lines:
                    yield some

    async def list_kinds(self, group_version: str) -> dict[str, ObjectKind]:
        """Return the kinds of ``v1`` or ``group/version``, by name; none if the server does not serve that."""
        if not _GROUP_VERSION.fullmatch(group_version):
            return {}
        try:
            answer = await self._api.ask("GET", group_path(group_version), largest=_LARGEST_DISCOVERY)
        except ClusterUnavailable:
            # of a group that it does not have, an API server does not speak as one: a bare "404 page not found"
            if await self._serves(group_version):
                raise
            return {}
        kinds = {}
        found = answer.body.get("resources") if answer.ok else None
        found = found if isinstance(found, list) else []
        if len(found) > _MOST_KINDS:
            raise ClusterUnavailable(f"{self._api.server} has more than {_MOST_KINDS} resources in a group")
        for resource in found:
            if isinstance(resource, dict) and NAME.fullmatch(str(resource.get("name"))):  # no subresource
                kinds[str(resource.get("kind"))] = ObjectKind(
                    group_version, str(resource["name"]), resource.get("namespaced") is True
                )
        return kinds

    async def find_preferred_version(self, group: str) -> str | None:
        """Return the server's preferred ``group/version`` of a group; None if it does not have the group."""
        found = next((served for served in await self._groups() if served.get("name") == group), {})
        version = mapping(found.get("preferredVersion")).get("groupVersion")
        return str(version) if version else None

    async def _serves(self, group_version: str) -> bool:
        """Return True if the server lists the version; anything without a group is served."""
        if "/" not in group_version:
            return True
        versions = (version for group in await self._groups() for version in objects_in(group.get("versions")))
        return any(version.get("groupVersion") == group_version for version in versions)

    async def _groups(self) -> list[dict[str, Any]]:
        return objects_in((await self._api.ask("GET", "/apis", largest=_LARGEST_DISCOVERY)).body.get("groups"))

    async def review_access(self, attributes: dict[str, str]) -> bool:
        """Return True if the account may do what these attributes of a SelfSubjectAccessReview name."""
        review = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
        body = {**review, "spec": {"resourceAttributes": attributes}}
        answer = await self._api.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        return bool(mapping(answer.body.get("status")).get("allowed")) if answer.ok else True

    async def find_object(self, kind: ObjectKind, *, namespace: str, name: str, largest: int) -> dict[str, Any] | None:
        """Return the object, None if there is none; ``namespace`` is used for namespaced kinds."""
        answer = await self._api.ask("GET", _object_path(kind, namespace, name), largest=largest)
        return answer.body if answer.ok else None

    async def delete_object(
        self,
        kind: ObjectKind,
        *,
        namespace: str,
        name: str,
        uid: str,
        resource_version: str = "",
        foreground: bool = False,
    ) -> bool:
        """Delete the object with that uid, and its dependents after it; return False if it was already gone.

        With ``resource_version``, also returns False if the object has changed since, and keeps it. With ``foreground``
        it is deleted after its dependents.
        """
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
        options["propagationPolicy"] = "Foreground" if foreground else "Background"
        path = _object_path(kind, namespace, name)
        return (await self._api.ask("DELETE", path, body=options, taken={_NOT_FOUND, _CONFLICT})).ok

    async def merge_object(self, kind: ObjectKind, *, namespace: str, name: str, patch: dict[str, Any]) -> bool:
        """Apply a JSON merge patch (RFC 7386) to the object; return False if it does not exist."""
        path, merge = _object_path(kind, namespace, name), "application/merge-patch+json"
        return (await self._api.ask("PATCH", path, params=_OURS, body=patch, content_type=merge)).ok

    async def apply_object(self, kind: ObjectKind, *, namespace: str, name: str, body: dict[str, Any]) -> str:
        """Apply ``body`` by server-side apply, like Helm, and return the object's resourceVersion.

        An object without differences is unchanged. Returns an empty string if the server refuses: the object changed
        since the resourceVersion in ``body``, a field belongs to another manager, or a rule forbids it.
        """
        answer = await self._api.ask(
            "PATCH",
            _object_path(kind, namespace, name),
            params={"fieldManager": _HELM, "force": "false"},
            body=body,
            content_type="application/apply-patch+yaml",
            taken={_BAD_REQUEST, _NOT_FOUND, _CONFLICT, _INVALID},
        )
        return str(mapping(answer.body.get("metadata")).get("resourceVersion", "")) if answer.ok else ""

    async def try_apply(
        self, kind: ObjectKind, *, namespace: str, name: str, body: dict[str, Any], largest: int, force: bool = True
    ) -> dict[str, Any]:
        """Return the object as a server-side apply like Helm's would leave it (dry run); ``force`` is of conflicts.

        Raises Refused if the server would not take it, without ``force`` also for fields that others manage.
        """
        path = _object_path(kind, namespace, name)
        params = {"fieldManager": _HELM, "force": "true" if force else "false", "dryRun": "All"}
        answer = await self._api.ask(
            "PATCH",
            path,
            params=params,
            body=body,
            content_type="application/apply-patch+yaml",
            taken={_BAD_REQUEST, _NOT_FOUND, _CONFLICT, _INVALID},
            largest=largest,
        )
        if not answer.ok:
            text = answer.message or f"{self._api.server} answered {answer.status}"
            raise Refused(text, read_conflicts(answer.body), missing_namespace=read_missing_namespace(answer.body))
        return answer.body

    async def list_pods(
        self, *, namespace: str, labels: dict[str, str], limit: int, largest: int
    ) -> list[dict[str, Any]]:
        """Return the first pods of the namespace with all these labels; none for invalid labels."""
        kind = {"apiVersion": "v1", "kind": "Pod"}  # which items of a list leave out
        found = await self._list_labelled("pods", namespace, labels, limit=limit, largest=largest)
        return [kind | item for item in found]

    async def list_claims(self, *, namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        """Return the first volume claims of the namespace with all these labels; none for invalid labels."""
        return await self._list_labelled("persistentvolumeclaims", namespace, labels, limit=_MOST_CLAIMS, largest=None)

    async def list_kind(self, kind: ObjectKind, *, namespace: str, selector: str = "") -> AsyncIterator[dict[str, Any]]:
        """Yield the objects that match the label selector, page by page; ``namespace`` is used for namespaced kinds."""
        params = {"labelSelector": selector} if selector else {}
        async for item in self._api.list_objects(_list_path(kind, namespace), params):
            yield item

    async def list_kind_metadata(
        self, kind: ObjectKind, *, namespace: str, selector: str
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the same objects with nothing but their metadata."""
        params = {"labelSelector": selector}
        async for item in self._api.list_objects(_list_path(kind, namespace), params, accept=_METADATA_ONLY):
            yield item

    async def _list_labelled(
        self, plural: str, namespace: str, labels: dict[str, str], *, limit: int, largest: int | None
    ) -> list[dict[str, Any]]:
        params = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items()), "limit": str(limit)}
        path = f"/api/v1/namespaces/{checked_name(namespace)}/{plural}"
        answer = await self._api.ask("GET", path, params=params, largest=largest, taken={_BAD_REQUEST})
        return objects_in(answer.body.get("items"))

    async def list_secret_data(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the data (base64) of every Secret that the account can read, except Helm's."""
        for place in self.places:
            async for item in self._api.list_objects(secrets_path(place), {"fieldSelector": f"type!={_RELEASE_TYPE}"}):
                data = item.get("data")
                if isinstance(data, dict):
                    yield data

    async def replace_secret(self, secret: Secret) -> bool:
        """Write the Secret back; return False if it changed since it was read, is immutable, or is gone."""
        metadata = secret["metadata"]
        path = f"{secrets_path(metadata['namespace'])}/{checked_name(metadata['name'])}"
        return (await self._api.ask("PUT", path, body=secret, taken={_NOT_FOUND, _CONFLICT, _INVALID})).ok

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        await self._api.transport.close()

    def retire(self) -> asyncio.Task[None]:
        """Close the connections when no request is under way; the returned task closes idle ones now."""
        return self._api.retire()


def _list_path(kind: ObjectKind, namespace: str) -> str:
    place = f"/namespaces/{checked_name(namespace)}" if kind.namespaced else ""
    return f"{group_path(kind.group_version)}{place}/{kind.plural}"


def _object_path(kind: ObjectKind, namespace: str, name: str) -> str:
    place = f"/namespaces/{checked_name(namespace)}" if kind.namespaced else ""
    return f"{group_path(kind.group_version)}{place}/{kind.plural}/{escaped_name(name)}"

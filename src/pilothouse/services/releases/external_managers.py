"""Releases managed by another program, which would undo changes made here.

A label or annotation is no proof: it remains after its program was removed. The proof is the object that the program
acts on. With proof a change is refused, without it the change is carried out, and the operation reports it.
"""

import asyncio
import re

import structlog

from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import ClusterDenied, Forbidden, InvalidChart, InvalidRequest
from pilothouse.kubernetes.client import ClusterClient, Secret
from pilothouse.kubernetes.external_managers import Manager, find_manager, is_suspended
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.resources import manifest_objects
from pilothouse.services.releases.preflight import Preflight
from pilothouse.settings import ReleaseSettings

log = structlog.get_logger(__name__)

_LARGEST = 4 * 1024 * 1024
_DOCUMENTS = re.compile(r"^---[^\n]*\n", re.MULTILINE)
_WORKLOAD = re.compile(r"^kind: *['\"]?(Deployment|StatefulSet|DaemonSet)\b", re.MULTILINE)


class ReleaseManagers:
    """Determine whether another program manages a release; costs one request to the cluster."""

    def __init__(self, preflight: Preflight, settings: ReleaseSettings) -> None:
        self._preflight = preflight
        self._policy = settings.other_managers

    async def check(self, client: ClusterClient, stored: StoredRelease, secret: Secret) -> str | None:
        """Raise Forbidden if another program manages the release; return a warning about it, or None."""
        await self.refuse_other_namespace(client, stored, secret)
        if self._policy == "ignore":
            return None
        owner = find_manager(secret.get("metadata") or {})
        manager = owner or await self._find_mark(client, stored)
        if manager is None:
            return None
        proof = "managed" if owner is not None or not manager.group else await self._prove(client, manager)
        if proof == "managed" and self._policy == "refuse":
            raise Forbidden(
                f"release {stored.name!r} is managed by {manager}, which would undo the change; make it there, or "
                "suspend that first (PILOTHOUSE_RELEASES__OTHER_MANAGERS=warn allows it anyway)"
            )
        log.warning("release_has_other_manager", release=stored.name, manager=str(manager), proof=proof)
        return f"an object of the release is marked as managed by {manager}, which {_PROOFS[proof]}"

    async def refuse_other_namespace(self, client: ClusterClient, stored: StoredRelease, secret: Secret) -> None:
        """Raise Forbidden, naming the manager, if the release has its objects in another namespace than its record."""
        if stored.target_namespace == stored.namespace:
            return
        manager = find_manager(secret.get("metadata") or {}) or await self._find_mark(client, stored)
        raise Forbidden(
            f"release {stored.name!r} keeps its objects in namespace {stored.target_namespace!r} and its record in "
            f"{stored.namespace!r}, which only its manager can change: {manager or 'the program that made it'}"
        )

    async def _find_mark(self, client: ClusterClient, stored: StoredRelease) -> Manager | None:
        """Search the manifest, which has Flux's labels, and one of its live objects."""
        documents = [text for text in _DOCUMENTS.split(stored.manifest) if text.strip()]
        chosen = next((text for text in documents if _WORKLOAD.search(text)), documents[0] if documents else "")
        try:
            objects = await asyncio.to_thread(read_objects, chosen.encode(), file="manifest", max_bytes=_LARGEST)
            for document in objects[:1]:
                manager = find_manager(document.get("metadata") or {})
                return manager or await self._find_live_mark(client, document, namespace=stored.target_namespace)
        except (InvalidChart, InvalidRequest, UnicodeEncodeError, ClusterDenied) as error:
            log.info("release_marks_unread", release=stored.name, cause=str(error))
        return None

    async def _find_live_mark(
        self, client: ClusterClient, document: dict[str, object], *, namespace: str
    ) -> Manager | None:
        for obj in manifest_objects([document], namespace=namespace)[:1]:
            kind = await self._preflight.capabilities(client).kinds.find(obj.api_version, obj.kind)
            if kind is not None:
                live = await client.find_object(kind, namespace=obj.namespace, name=obj.name, largest=_LARGEST)
                return find_manager((live or {}).get("metadata") or {})
        return None

    async def _prove(self, client: ClusterClient, manager: Manager) -> str:
        """Return one of the keys of ``_PROOFS``."""
        try:
            version = await client.find_preferred_version(manager.group)
            if version is None:
                return "elsewhere"
            kind = await self._preflight.capabilities(client).kinds.find(version, manager.kind)
            if kind is None:
                return "elsewhere"
            found = await client.find_object(kind, namespace=manager.namespace, name=manager.name, largest=_LARGEST)
        except (ClusterDenied, InvalidRequest):
            return "hidden"
        if found is None:
            return "gone"
        return "suspended" if is_suspended(found) else "managed"


_PROOFS = {
    "managed": "may undo the change",
    "suspended": "is suspended, and will undo the change when it is resumed",
    "gone": "does not exist (any more)",
    "elsewhere": "is not in this cluster; if it is in another one, it may undo the change",
    "hidden": "the cluster's account may not read; if it is there, it may undo the change",
}

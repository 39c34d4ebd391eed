"""Objects that an undo leaves behind, as Helm does; they are reported because nothing else tells of them.

Objects that their manifest says to keep, the chart's own kinds (``crds/`` is installed and never removed), and the
volume claims that StatefulSets created. Only existing ones are reported.
"""

import asyncio
import re

import structlog

from pilothouse.chart_archive.charts import read_crds
from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import ClusterDenied, ClusterUnavailable, InvalidChart, InvalidRequest
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.kubernetes.resources import ManifestObject, Object, manifest_objects
from pilothouse.worker.actions.manifests import find_live, identity, is_kept, read_parts
from pilothouse.worker.attempt import Attempt
from pilothouse.worker.outcome import Event

log = structlog.get_logger(__name__)

_CRD = "CustomResourceDefinition"
_LARGEST_CRD = 5 * 1024 * 1024
_WHY_KEPT, _WHY_CRD, _WHY_CLAIM = "helm.sh/resource-policy: keep", "from the chart's crds/", "volume claim"


async def find_left_behind(
    attempt: Attempt, removed: StoredRelease, *, replaced_by: StoredRelease | None = None, crds: bool = False
) -> tuple[Event, ...]:
    """Return an event that names what is left of the revision, apart from its replacement's objects; or none.

    ``crds``: include the chart's own kinds. What cannot be looked up is left out; the undo is done anyway.
    """
    try:
        left = await _find(attempt, removed, replaced_by, crds=crds)
    except (ClusterDenied, ClusterUnavailable, InvalidRequest) as error:
        log.warning("leftovers_unknown", operation_id=attempt.row.id, cause=str(error))
        return ()
    if not left:
        return ()
    names = ", ".join(f"{obj.kind}/{obj.name} ({why})" for obj, why in left)
    found = [
        {"api_version": obj.api_version, "kind": obj.kind, "namespace": obj.namespace, "name": obj.name, "why": why}
        for obj, why in left
    ]
    return (Event("left_behind", f"left behind: {names}", {"objects": found}),)


async def _find(
    attempt: Attempt, removed: StoredRelease, replaced_by: StoredRelease | None, *, crds: bool
) -> list[tuple[ManifestObject, str]]:
    kinds = KindCache(attempt.client)
    stays = {identity(obj) for obj, _ in await read_parts(replaced_by)} if replaced_by is not None else set()
    parts = [(obj, document) for obj, document in await read_parts(removed) if identity(obj) not in stays]
    candidates = [(obj, _WHY_KEPT) for obj, document in parts if is_kept(document)]
    if crds:
        candidates += [(obj, _WHY_CRD) for obj in await _read_crds(attempt)]
    left = [(obj, why) for obj, why in candidates if await _is_there(attempt, obj, kinds)]
    for obj, document in parts:
        if obj.kind == "StatefulSet":
            left += [(claim, _WHY_CLAIM) for claim in await _find_claims(attempt, obj, document)]
    return left


async def _is_there(attempt: Attempt, obj: ManifestObject, kinds: KindCache) -> bool:
    kind = await kinds.find(obj.api_version, obj.kind)
    live = await find_live(attempt, obj, kind) if kind is not None else None
    return live is not None and not live["metadata"].get("deletionTimestamp")


async def _read_crds(attempt: Attempt) -> list[ManifestObject]:
    archive = await attempt.read_chart()
    if archive is None:
        return []
    try:
        texts = await asyncio.to_thread(read_crds, archive, limits=attempt.settings.charts)
        documents = [
            document
            for text in texts
            for document in await asyncio.to_thread(read_objects, text, file="crds", max_bytes=_LARGEST_CRD)
        ]
    except InvalidChart as error:
        log.warning("crds_unreadable", operation_id=attempt.row.id, cause=str(error))
        return []
    return [obj for obj in manifest_objects(documents, namespace="") if obj.kind == _CRD]


async def _find_claims(attempt: Attempt, obj: ManifestObject, document: Object) -> list[ManifestObject]:
    """Return the claims of a StatefulSet by the controller's naming scheme, except those deleted with it."""
    templates = (document.get("spec") or {}).get("volumeClaimTemplates")
    if not isinstance(templates, list) or not templates or not obj.selector:
        return []
    bases = "|".join(re.escape(str((each.get("metadata") or {}).get("name"))) for each in templates)
    name = re.compile(rf"({bases})-{re.escape(obj.name)}-[0-9]+", re.ASCII)
    found = await attempt.client.list_claims(namespace=obj.namespace, labels=dict(obj.selector))
    return [
        ManifestObject("v1", "PersistentVolumeClaim", obj.namespace, str(metadata["name"]))
        for metadata in (claim.get("metadata") or {} for claim in found)
        if name.fullmatch(str(metadata.get("name", "")))
        and not metadata.get("deletionTimestamp")
        and not metadata.get("ownerReferences")
    ]

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
    names = ", ".join(f"{one.kind}/{one.name} ({why})" for one, why in left)
    found = [
        {"api_version": one.api_version, "kind": one.kind, "namespace": one.namespace, "name": one.name, "why": why}
        for one, why in left
    ]
    return (Event("left_behind", f"left behind: {names}", {"objects": found}),)


async def _find(
    attempt: Attempt, removed: StoredRelease, replaced_by: StoredRelease | None, *, crds: bool
) -> list[tuple[ManifestObject, str]]:
    kinds = KindCache(attempt.client)
    stays = {identity(one) for one, _ in await read_parts(replaced_by)} if replaced_by is not None else set()
    parts = [(one, document) for one, document in await read_parts(removed) if identity(one) not in stays]
    wanted = [(one, _WHY_KEPT) for one, document in parts if is_kept(document)]
    if crds:
        wanted += [(one, _WHY_CRD) for one in await _read_crds(attempt)]
    left = [(one, why) for one, why in wanted if await _is_there(attempt, one, kinds)]
    for one, document in parts:
        if one.kind == "StatefulSet":
            left += [(claim, _WHY_CLAIM) for claim in await _find_claims(attempt, one, document)]
    return left


async def _is_there(attempt: Attempt, one: ManifestObject, kinds: KindCache) -> bool:
    kind = await kinds.find(one.api_version, one.kind)
    live = await find_live(attempt, one, kind) if kind is not None else None
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
    return [one for one in manifest_objects(documents, namespace="") if one.kind == _CRD]


async def _find_claims(attempt: Attempt, one: ManifestObject, document: Object) -> list[ManifestObject]:
    """Return the claims of a StatefulSet by the controller's naming scheme, except those deleted with it."""
    templates = (document.get("spec") or {}).get("volumeClaimTemplates")
    if not isinstance(templates, list) or not templates or not one.selector:
        return []
    bases = "|".join(re.escape(str((each.get("metadata") or {}).get("name"))) for each in templates)
    name = re.compile(rf"({bases})-{re.escape(one.name)}-[0-9]+", re.ASCII)
    found = await attempt.client.list_claims(namespace=one.namespace, labels=dict(one.selector))
    return [
        ManifestObject("v1", "PersistentVolumeClaim", one.namespace, str(metadata["name"]))
        for metadata in (claim.get("metadata") or {} for claim in found)
        if name.fullmatch(str(metadata.get("name", "")))
        and not metadata.get("deletionTimestamp")
        and not metadata.get("ownerReferences")
    ]

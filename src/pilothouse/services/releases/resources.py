"""The live objects of releases, for callers that ask for them (``show_resources``)."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import Busy, ClusterDenied, ClusterUnavailable, CorruptRelease, InvalidChart, NotFound
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.helm_secrets import StoredRelease, read_release
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.kubernetes.resources import LiveObjects, manifest_objects
from pilothouse.redaction import Masks, masks_of
from pilothouse.services.clusters import ClusterConnection, Clusters, cluster_error_context
from pilothouse.services.releases.masking import hide_in_object
from pilothouse.states import ReleaseStatus

#: A release Secret holds 1 MiB, packed; real manifests are far smaller than this.
_LARGEST_MANIFEST = 4 * 1024 * 1024
_SECONDS = 5.0


class ReleaseResources:
    """Read the objects in a release's manifest from the cluster."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    async def of_release(self, cluster_id: str, *, namespace: str, name: str, hide_values: bool) -> str:
        """Return the objects of the newest stored revision as JSON text; ``{}`` if the cluster has none.

        ``hide_values``: mask the release's values; those of the deployed revision count too, because the objects may
        still be as that one made them.

        If not even the revision can be read, returns an object with only the member ``error``: the rest of the caller's
        request succeeded, and must not look as if it had failed.
        """
        try:
            cluster = await self._clusters.reach(cluster_id, project_id=None)
            client = self._clusters.client(cluster)
            with cluster_error_context(cluster):
                labels = await client.list_release_labels(namespace=namespace, name=name)
                newest = max((entry.revision for entry in labels), default=0)
                secret = await client.find_release_secret(namespace=namespace, name=name, revision=newest)
            if secret is None:
                return "{}"
            stored = await read_release(secret)
            masks = await self._masks(client, stored, labels) if hide_values else None
        except (ClusterUnavailable, ClusterDenied, CorruptRelease, NotFound, Busy) as error:
            return _text({"error": str(error)})
        if masks is not None and masks.withholds:
            return _text({"error": "omitted: the release has too many values to mask in its objects"})
        return await self._of_manifest(
            cluster, namespace=stored.target_namespace, manifest=stored.manifest, masks=masks
        )

    async def _masks(self, client: ClusterClient, stored: StoredRelease, labels: Sequence[ReleaseLabels]) -> Masks:
        """Return the masks for the objects of the release."""
        values: dict[str, Any] = {"merged": stored.values, "own": stored.config}
        deployed = max(
            (entry.revision for entry in labels if entry.status == ReleaseStatus.DEPLOYED), default=stored.revision
        )
        if deployed != stored.revision:
            secret = await client.find_release_secret(namespace=stored.namespace, name=stored.name, revision=deployed)
            before = await read_release(secret) if secret is not None else stored
            values |= {"merged_before": before.values, "own_before": before.config}
        return await asyncio.to_thread(_made, values, (stored.name, stored.namespace, stored.target_namespace))

    async def _of_manifest(
        self, cluster: ClusterConnection, *, namespace: str, manifest: str, masks: Masks | None
    ) -> str:
        """Return the objects of a manifest as JSON text: groups as in Helm, with an ``error`` for missing ones.

        Takes 5 s at most. A manifest that cannot be parsed returns an object with only the member ``error``.
        """
        try:
            documents = await asyncio.to_thread(
                read_objects, manifest.encode(), file="manifest", max_bytes=_LARGEST_MANIFEST
            )
        except (InvalidChart, UnicodeEncodeError) as error:
            return _text({"error": str(error)})
        objects = manifest_objects(documents, namespace=namespace)
        hide = partial(hide_in_object, masks=masks) if masks is not None else None
        live = LiveObjects(self._clusters.client(cluster), seconds=_SECONDS, hide=hide)
        return (await live.read(objects)).decode()


def _made(values: dict[str, Any], public: tuple[str, ...]) -> Masks:
    """Return the masks with their matchers built already, because that takes a while."""
    masks = masks_of(values=values, public=public)
    masks.apply("")
    return masks


def _text(said: object) -> str:
    return orjson.dumps(said).decode()

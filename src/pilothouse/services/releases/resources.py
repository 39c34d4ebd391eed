"""The live objects of releases, for callers that ask for them (``show_resources``)."""

import asyncio

import orjson

from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import Busy, ClusterDenied, ClusterUnavailable, CorruptRelease, InvalidChart, NotFound
from pilothouse.kubernetes.helm_secrets import read_release
from pilothouse.kubernetes.resources import LiveObjects, manifest_objects
from pilothouse.services.clusters import Clusters, ReachableCluster, naming

#: A release Secret holds 1 MiB, packed; real manifests are far smaller than this.
_LARGEST_MANIFEST = 4 * 1024 * 1024
_SECONDS = 5.0


class ReleaseResources:
    """Reads the objects that a release's manifest names, as they are in the cluster now."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    async def of_release(self, cluster_id: str, *, namespace: str, name: str) -> str:
        """The objects of the newest stored revision as JSON text; ``{}`` if the cluster has none.

        If not even the revision can be read, an object with the member ``error`` alone: what the caller asked for
        besides was done or found, and must not look as if it had failed.
        """
        try:
            cluster = await self._clusters.reach(cluster_id, project_id=None)
            client = self._clusters.client(cluster)
            with naming(cluster):
                labels = await client.list_release_labels(namespace=namespace, name=name)
                newest = max((one.revision for one in labels), default=0)
                secret = await client.find_release_secret(namespace=namespace, name=name, revision=newest)
            if secret is None:
                return "{}"
            stored = await read_release(secret)
        except (ClusterUnavailable, ClusterDenied, CorruptRelease, NotFound, Busy) as error:
            return _text({"error": str(error)})
        return await self.of_manifest(cluster, namespace=stored.target_namespace, manifest=stored.manifest)

    async def of_manifest(self, cluster: ReachableCluster, *, namespace: str, manifest: str) -> str:
        """The objects of a manifest as JSON text: groups as Helm has them, with an ``error`` where one is missing.

        Takes 5 s at most. A manifest that cannot be read gives an object with the member ``error`` alone.
        """
        try:
            documents = await asyncio.to_thread(
                read_objects, manifest.encode(), file="manifest", max_bytes=_LARGEST_MANIFEST
            )
        except (InvalidChart, UnicodeEncodeError) as error:
            return _text({"error": str(error)})
        objects = manifest_objects(documents, namespace=namespace)
        return (await LiveObjects(self._clusters.client(cluster), seconds=_SECONDS).read(objects)).decode()


def _text(said: object) -> str:
    return orjson.dumps(said).decode()

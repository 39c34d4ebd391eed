"""The live objects of a release as a tree, with the health of each."""

import asyncio
from dataclasses import dataclass

from pilothouse.auth.policy import READ_VALUES
from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import CorruptRelease, InvalidChart
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.object_tree import ObjectTree, TreeReader
from pilothouse.kubernetes.resources import manifest_objects
from pilothouse.masking_thread import in_masking_thread
from pilothouse.services.clusters import Clusters, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.details import ReleaseDetails, ReleaseRef
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.services.releases.masking import LARGEST_MANIFEST, masks_of_stored
from pilothouse.states import ReleaseStatus

_SECONDS = 10.0


@dataclass(frozen=True)
class LiveTree:
    """The tree of the objects in a revision's manifest."""

    revision: int
    tree: ObjectTree


class ReleaseTrees:
    """Read what a release has in its cluster."""

    def __init__(self, clusters: Clusters, details: ReleaseDetails) -> None:
        self._clusters = clusters
        self._details = details

    async def read(self, caller: Caller, place: ReleaseRef) -> LiveTree:
        """Return the newest revision's live objects, in the cluster of that id.

        For callers who may not read values, these are masked in texts.

        Takes 10 s at most; what is not read by then says so. Raises CorruptRelease for an unreadable manifest.
        """
        caller.require("cce:release:get")
        stored = await self._details.read_stored(place, None)
        try:
            documents = await asyncio.to_thread(
                read_objects, stored.manifest.encode(), file="manifest", max_bytes=LARGEST_MANIFEST
            )
        except (InvalidChart, UnicodeEncodeError) as error:
            raise CorruptRelease(f"the manifest of revision {stored.revision} cannot be read: {error}") from None
        cluster = await self._clusters.reach(place.cluster, project_id=None)
        client = self._clusters.client(cluster)
        revisions = [stored]
        with cluster_error_context(cluster):
            if stored.status != ReleaseStatus.DEPLOYED:  # the objects may still be as the deployed revision made them
                revisions += [old for old, _ in await read_unsuperseded(client, place.namespace, place.name)]
            objects = manifest_objects(documents, namespace=stored.target_namespace)
            tree = await TreeReader(client, seconds=_SECONDS).read(objects)
        if not caller.may(READ_VALUES):
            await in_masking_thread(_hide, tree, revisions)
        return LiveTree(stored.revision, tree)


def _hide(tree: ObjectTree, revisions: list[StoredRelease]) -> None:
    masks = masks_of_stored(*revisions)
    for node in tree.nodes():
        node.message = masks.apply(node.message)
        node.images = [masks.apply(image) for image in node.images]
    tree.problems[:] = [masks.apply(problem) for problem in tree.problems]

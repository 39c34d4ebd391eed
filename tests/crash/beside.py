"""A release whose operation only waits, in a hook that does not end by itself, beside the one that is tried."""

from contextlib import suppress

from lightkube import ApiError, Client
from lightkube.resources.core_v1 import Pod
from lightkube.types import PatchType

from tests.crash.releases import Release

_ENDS = {"metadata": {"annotations": {"pilothouse.dev/simulate": None}}}


class Beside:
    """Waits from its making on, so that its worker has a slot for another operation."""

    def __init__(self, api: Client, release: Release) -> None:
        self.release = release
        self._api = api
        release.begin_install(hook="endless")

    @property
    def operation(self) -> str:
        """Its id."""
        return self.release.deployment.operations(self.release.name)[0][0]

    def let_end(self) -> None:
        """End the hook; ask again for one that a later attempt starts."""
        namespace, job = self.release.namespace, f"{self.release.name}-hook"
        for pod in self._api.list(Pod, namespace=namespace, labels={"job-name": job}):
            assert pod.metadata is not None
            with suppress(ApiError):  # an attempt deletes what an earlier one made
                self._api.patch(Pod, str(pod.metadata.name), _ENDS, namespace=namespace, patch_type=PatchType.MERGE)

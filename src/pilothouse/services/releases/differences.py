"""What differs between two revisions of a release."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pilothouse.auth.policy import READ_VALUES
from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import CorruptRelease, InvalidChart
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.resources import manifest_parts, without_secret_data
from pilothouse.masking_thread import in_masking_thread
from pilothouse.off_loop import off_loop
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.details import ReleaseDetails, ReleaseRef
from pilothouse.services.releases.manifest_diff import CHANGES, Object, ObjectDifference, Part, compare_objects
from pilothouse.services.releases.masking import (
    DOCUMENTS,
    LARGEST_MANIFEST,
    hide_in_object,
    masks_of_stored,
    refuse_too_large,
)

#: Documents by their text.
Parsed = dict[str, list[Object]]


@dataclass(frozen=True)
class RevisionDiff:
    """The objects of two revisions, compared; ``summary`` counts them by their change."""

    from_revision: int
    to_revision: int
    summary: dict[str, int]
    objects: list[ObjectDifference] = field(repr=False)
    problems: tuple[str, ...] = ()


class ReleaseDifferences:
    """Compare revisions of a release."""

    def __init__(self, details: ReleaseDetails) -> None:
        self._details = details

    async def read(
        self, caller: Caller, place: ReleaseRef, *, from_revision: int | None, to_revision: int | None
    ) -> tuple[StoredRelease, StoredRelease]:
        """Return a revision (None: the one before the other) and another (None: the newest) from the cluster.

        Raises NotFound for a revision that is not there, CorruptRelease for one that cannot be read.
        """
        caller.require("cce:release:get")
        new = await self._details.find_stored(caller, place, to_revision)
        if from_revision is None:
            from_revision = await self._details.find_before(caller, place, new.revision)
        return await self._details.find_stored(caller, place, from_revision), new

    async def compare(self, caller: Caller, old: StoredRelease, new: StoredRelease) -> RevisionDiff:
        """Return what changed from one revision to the other, without hooks.

        Data of Secrets is masked for everybody, all values for callers who may not read them.
        """
        caller.require("cce:release:get")
        size = len(old.manifest) + len(new.manifest)
        if caller.may(READ_VALUES):
            return await off_loop(lambda: _compare(old, new, hides=False), size=size)
        return await in_masking_thread(_compare, old, new, hides=True)


def _compare(old: StoredRelease, new: StoredRelease, *, hides: bool) -> RevisionDiff:
    parsed: Parsed = {}
    masks = masks_of_stored(old, new) if hides else None

    def show(document: Object) -> Object:
        shown = without_secret_data(document)
        return shown if masks is None else hide_in_object(shown, masks)

    found = compare_objects(_parts(old, parsed), _parts(new, parsed), show=show)
    counted = Counter(difference.change for difference in found)
    summary = {str(change): counted[change] for change in CHANGES}
    return RevisionDiff(old.revision, new.revision, summary, found)


def read_parts(manifest: str, *, namespace: str, of: str, parsed: Parsed) -> list[Part]:
    """Return the objects of the manifest; ``parsed`` are documents by their text: most are the same in both.

    Raises InvalidRequest for a manifest that is too large, CorruptRelease for one that cannot be read; ``of`` is whose
    it is.
    """
    refuse_too_large(manifest, of=of)
    objects: list[Any] = []
    for text in DOCUMENTS.split(manifest):
        if text not in parsed:
            try:
                parsed[text] = read_objects(text.encode(), file="manifest", max_bytes=LARGEST_MANIFEST)
            except (InvalidChart, UnicodeEncodeError) as error:
                raise CorruptRelease(f"{of} cannot be compared: {error}") from None
        objects += parsed[text]
    return manifest_parts(objects, namespace=namespace)


def _parts(stored: StoredRelease, parsed: Parsed) -> list[Part]:
    of = f"revision {stored.revision}"
    return read_parts(stored.manifest, namespace=stored.target_namespace, of=of, parsed=parsed)

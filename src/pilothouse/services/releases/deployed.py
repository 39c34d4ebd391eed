"""Which revisions of a release ever were deployed: what a rollback, an undo or the console can go back to.

A status alone does not tell. A rollback of Helm that fails while it applies makes the revision that it started from
``superseded``, whatever that was. But Helm never writes the description of a revision again once it has judged it, but
for an uninstall, so that this says whether it had failed, or was never judged. Of what is uninstalled, only the
operation that wrote it can tell.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final, Protocol

from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.states import ReleaseStatus

#: Helm's words, of all its versions, for what failed, and for what nobody has judged. A word in front can be masked.
_FAILED: Final = '\\S+ "{name}" failed: '
_NEVER_JUDGED: Final = frozenset({"Initial install underway", "Preparing upgrade", "Preparing rollback"})


class Numbered(Protocol):
    """A revision of a release, of which more can be read."""

    @property
    def revision(self) -> int:
        """The number."""
        ...

    @property
    def status(self) -> str:
        """The status."""
        ...


def was_deployed(name: str, status: str, description: str, *, failed: bool = False) -> bool:
    """Return whether that revision of the release ever was deployed; ``failed``: the operation that wrote it did."""
    match status:
        case ReleaseStatus.DEPLOYED:
            return True
        case ReleaseStatus.UNINSTALLED:
            return not failed
        case ReleaseStatus.SUPERSEDED:
            told_failed = re.match(_FAILED.format(name=re.escape(name)), description) is not None
            return not told_failed and description not in _NEVER_JUDGED
    return False


def likeliest_first(found: Iterable[Numbered]) -> list[Numbered]:
    """Return the revisions in the order in which one to go back to is looked for: the deployed one, then the newest."""
    return sorted(
        found, key=lambda revision: (revision.status == ReleaseStatus.DEPLOYED, revision.revision), reverse=True
    )


async def find_last_deployed(
    name: str,
    found: Iterable[Numbered],
    read: Callable[[int], Awaitable[StoredRelease | None]],
    *,
    failed: Collection[int] = (),
) -> int | None:
    """Return the number of the revision that was deployed last; None if none of these was.

    Only superseded ones are ``read``, until one was deployed. ``failed``: what operations wrote that failed.
    """
    for revision in likeliest_first(found):
        description = ""
        if revision.status == ReleaseStatus.SUPERSEDED:
            try:
                stored = await read(revision.revision)
            except CorruptRelease:  # Helm cannot go back to it either
                continue
            if stored is None:
                continue
            description = stored.description
        if was_deployed(name, revision.status, description, failed=revision.revision in failed):
            return revision.revision
    return None

"""Values of revisions that an operation meets and its order does not know."""

from contextlib import suppress

from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import Order, target_of
from pilothouse.worker.attempt import Attempt


async def learn_values(attempt: Attempt, order: Order, newest: ReleaseLabels | None) -> None:
    """Read what the order does not know of the values of the newest revision, and of what it goes back to.

    From then on no text tells them. The order knows what its acceptance has read; one that nobody has sent, the undo of
    another, knows nothing. What cannot be decoded, Helm cannot use either.
    """
    row, known = attempt.row, bool(order.hidden_values)
    accepted = row.base_revision, row.base_uid, row.base_version
    unknown = [] if known else [target_of(order)]
    if newest is not None and not (
        known and not attempt.begun and accepted == (newest.revision, newest.uid, newest.resource_version)
    ):
        unknown.append(newest.revision)
    for revision in unknown:
        if revision is not None:
            with suppress(CorruptRelease):
                await attempt.read_release(revision)

"""Locked revisions: our own are unlocked, foreign ones are reported."""

from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import LOCKED, StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.elsewhere import describe_elsewhere, is_at_work_elsewhere
from pilothouse.services.releases.locks import describe_lock
from pilothouse.states import OperationState
from pilothouse.worker.actions.hooks import remove_hooks
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.outcome import Outcome

#: What the status of an unlocked revision says, if nothing better is known.
INTERRUPTED = "The operation was interrupted"


async def end_interrupted(attempt: Attempt, stored: StoredRelease, *, why: str = INTERRUPTED) -> Secret | None:
    """Remove the hook objects of a locked revision, then unlock it; return its Secret after that.

    In this order: a worker that takes over in between finds it locked, and does both.
    """
    if stored.status in LOCKED:
        await remove_hooks(attempt, stored)
    return await attempt.unlock(stored, why=why)


async def clear_interrupted(attempt: Attempt, newest: ReleaseLabels) -> None:
    """Remove the hook objects of that exact revision, and leave it locked.

    What is unlocked is immutable, and an uninstall that keeps the history has to write the revision once more. Helm
    uninstalls what is uninstalling, and a late writer could only write the same.
    """
    stored = await attempt.read_release(newest.revision)
    if stored is not None and stored.uid == newest.uid:
        await remove_hooks(attempt, stored)


async def unlock_newest(attempt: Attempt, newest: ReleaseLabels, *, why: str = INTERRUPTED) -> Secret | None:
    """Turn that exact revision into a failed one if it is locked; return its Secret, None if it is gone.

    The hook objects of the interrupted attempt are removed before.
    """
    stored = await attempt.read_release(newest.revision)
    if stored is None or stored.uid != newest.uid:
        return None
    return await end_interrupted(attempt, stored, why=why)


async def failed_by_lock(attempt: Attempt, newest: ReleaseLabels) -> Outcome:
    """Return the failure for a release that is locked, with the lock's owner."""
    secret = await attempt.read(newest.revision)
    stored = stored_in(secret)
    if secret is None or stored is None:
        return Outcome("retry", "the release changed while it was read")
    row, database = attempt.row, attempt.context.database
    if await is_at_work_elsewhere(database, row.cluster_id, namespace=row.namespace, name=row.release_name):
        return Outcome(OperationState.FAILED, describe_elsewhere(stored))
    return Outcome(OperationState.FAILED, describe_lock(stored, secret, cluster_id=row.cluster_id))

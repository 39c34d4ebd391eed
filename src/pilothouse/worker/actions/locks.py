"""Revisions that somebody left locked: ours are unlocked, another program's are told of."""

from pilothouse.kubernetes.client import ReleaseLabels, Secret
from pilothouse.kubernetes.helm_secrets import LOCKED, StoredRelease
from pilothouse.services.releases.locks import describe_lock
from pilothouse.states import OperationState
from pilothouse.worker.actions.hooks import remove_hooks
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.outcome import Outcome

#: What the status of an unlocked revision says, if nothing better is known.
INTERRUPTED = "The operation was interrupted"


async def end_interrupted(attempt: Attempt, stored: StoredRelease, *, why: str = INTERRUPTED) -> Secret | None:
    """Remove what the hooks of a locked revision made, then unlock it; return its Secret after that.

    In this order: whoever takes over in between finds it locked, and does both.
    """
    if stored.status in LOCKED:
        await remove_hooks(attempt, stored)
    return await attempt.unlock(stored, why=why)


async def unlock_newest(attempt: Attempt, newest: ReleaseLabels, *, why: str = INTERRUPTED) -> Secret | None:
    """Turn that very revision into a failed one, if it is locked; return its Secret after that, None if it is gone.

    What the hooks of the interrupted attempt made goes before that.
    """
    stored = stored_in(await attempt.read(newest.revision))
    if stored is None or stored.uid != newest.uid:
        return None
    return await end_interrupted(attempt, stored, why=why)


async def failed_by_lock(attempt: Attempt, newest: ReleaseLabels) -> Outcome:
    """Return the failure of what finds the release locked by another program: it says whose lock it is."""
    secret = await attempt.read(newest.revision)
    stored = stored_in(secret)
    if secret is None or stored is None:
        return Outcome("retry", "the release changed while it was looked at")
    return Outcome(OperationState.FAILED, describe_lock(stored, secret, cluster_id=attempt.row.cluster_id))

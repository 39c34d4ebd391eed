"""Operations that apply a plan: they act on the release that was planned for, or not at all."""

from pilothouse.services.releases.commands import PlannableOrder, target_of
from pilothouse.worker.attempt import Attempt, stored_in
from pilothouse.worker.state import ReleaseSnapshot, is_resumed


async def describe_moved(attempt: Attempt, order: PlannableOrder, snapshot: ReleaseSnapshot) -> str:
    """Return what moved since the release was planned for; empty if nothing did, or if there is no plan.

    If an attempt has begun the newest revision, it is replaced by the same plan.
    """
    planned, newest = order.planned, snapshot.newest
    if planned is None:
        return ""
    if newest is None:
        return "" if not planned.base_revision else "the plan was not applied: the release is gone since it was made"
    base = (planned.base_revision, planned.base_uid, planned.base_version)
    if base == (newest.revision, newest.uid, newest.resource_version):
        return ""
    if attempt.begun:
        stored = stored_in(await attempt.read(newest.revision))
        same = stored is not None and (stored.uid, stored.resource_version) == (newest.uid, newest.resource_version)
        if stored is not None and same and is_resumed(attempt.row, stored, snapshot, target_of(order)):
            return ""
    what = "changed" if newest.revision == planned.base_revision else "written"
    return f"the plan was not applied: revision {newest.revision} was {what} since it was made; plan again"

"""Operations that act on the revision that they were accepted for, such as those of plans, or not at all."""

from pilothouse.services.releases.commands import PlannableOrder, UpgradeCommand, target_of
from pilothouse.worker.attempt import Attempt
from pilothouse.worker.state import ReleaseSnapshot, is_resumed


async def describe_moved(attempt: Attempt, order: PlannableOrder, snapshot: ReleaseSnapshot) -> str:
    """Return what moved since the order was accepted; empty if nothing did, or if it is for any revision.

    If an attempt has begun the newest revision, it is replaced by the same order.
    """
    base, newest = _base_of(order), snapshot.newest
    if base is None:
        return ""
    is_plan = order.planned is not None
    refused = "the plan was not applied" if is_plan else "the release was not changed"
    since = "it was made" if is_plan else "the request"
    if newest is None:
        return "" if not base[0] else f"{refused}: the release is gone since {since}"
    if base == (newest.revision, newest.uid, newest.resource_version):
        return ""
    if attempt.begun:
        stored = await attempt.read_release(newest.revision)
        same = stored is not None and (stored.uid, stored.resource_version) == (newest.uid, newest.resource_version)
        if stored is not None and same and is_resumed(attempt.row, stored, snapshot, target_of(order)):
            return ""
    what = "changed" if newest.revision == base[0] else "written"
    again = "plan again" if is_plan else "look at it and send the request again"
    return f"{refused}: revision {newest.revision} was {what} since {since}; {again}"


def _base_of(order: PlannableOrder) -> tuple[int, str, str] | None:
    """Return number, uid and version of the revision that the order is for; None for any, 0 for none."""
    if (planned := order.planned) is not None:
        return planned.base_revision, planned.base_uid, planned.base_version
    only = order.only_over if isinstance(order, UpgradeCommand) else None
    return (only.revision, only.uid, only.version) if only is not None else None

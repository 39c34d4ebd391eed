"""Who wrote a revision, by which operation, and why."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pilothouse.states import LIVING_STATES, Action, ReleaseStatus
from pilothouse.store.release_changes import Change
from pilothouse.store.releases import RevisionRow

#: How far the clocks of a cluster and of the database may be apart.
_SKEW = timedelta(minutes=5)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
#: A cancel that rolled an upgrade or rollback back.
CANCEL = "cancel"
#: A failure that did, by the option of that name.
ROLLBACK_ON_FAILURE = "rollback_on_failure"
_UNDONE: Final = frozenset({CANCEL, ROLLBACK_ON_FAILURE})
_WRITING: Final = frozenset({Action.INSTALL, Action.UPGRADE, Action.ROLLBACK})
_ROLLBACK: Final = re.compile(r"Rollback to ([0-9]{1,9})\b")


@dataclass(frozen=True)
class Cause:
    """The operation that wrote a revision; ``cause`` is its action, or why the revision undoes it.

    ``state`` is the operation's, ``at`` when it ended; None while it goes on.
    """

    cause: str
    operation_id: str
    request_id: str
    user_id: str
    user_name: str
    state: str
    at: datetime | None


def find_last_change(row: RevisionRow, changes: Sequence[Change]) -> Cause | None:
    """Return what uninstalled the revision, if it is uninstalled and that is known, else what wrote it."""
    if row.status == ReleaseStatus.UNINSTALLED:
        ended = (change for change in changes if change.action == Action.UNINSTALL and change.finished_at is not None)
        last = next(ended, None)
        if last is not None and last.finished_at is not None and last.finished_at >= (row.last_deployed or _LONG_AGO):
            return _cause(last, last.action)
    return find_cause(row, changes)


def find_cause(row: RevisionRow, changes: Sequence[Change]) -> Cause | None:
    """Return what wrote the revision; None for another Helm client, or an operation whose record has expired.

    Installs and upgrades are proven by the label on their revision. A rollback copies the labels of its target, so it
    is recognised by number, time and Helm's description. The index of a registration knows no labels of operations that
    came through another one: what these wrote is recognised by number and time.
    """
    for change in changes:
        if row.origin_operation_id == change.operation_id and change.revision == row.revision:
            return _cause(change, change.action)
        if not row.description.startswith(("Rollback ", "Preparing rollback")) or not _was_then(change, row):
            continue
        if change.undo_revision == row.revision:
            return _cause(change, ROLLBACK_ON_FAILURE if change.failure else CANCEL)
        if change.action == Action.ROLLBACK and change.revision == row.revision:
            return _cause(change, change.action)
    for change in changes:
        writes = change.elsewhere and change.action in _WRITING
        if writes and change.revision == row.revision and _was_then(change, row):
            return _cause(change, change.action)
    return None


def find_underway(changes: Sequence[Change]) -> Change | None:
    """Return the unfinished operation of the release; it has at most one."""
    return next((change for change in changes if change.state in LIVING_STATES), None)


def find_chart_digest(row: RevisionRow, changes: Sequence[Change]) -> str:
    """Return the digest of the archive that the revision was made from; empty if that is not known.

    What restored a revision has its chart.
    """
    cause = find_cause(row, changes)
    writer = next(
        (change for change in changes if cause is not None and change.operation_id == cause.operation_id), None
    )
    if cause is None or writer is None:
        return ""
    if cause.cause not in _UNDONE and writer.chart_digest:
        return writer.chart_digest
    restored = _ROLLBACK.match(row.description)
    others = [change for change in changes if change is not writer]
    return _digest_of(int(restored[1]), others, below=row.revision) if restored is not None else ""


def _digest_of(number: int, changes: Sequence[Change], *, below: int) -> str:
    """Return the digest of what a revision was made from, or of what it restored."""
    target = next((change for change in changes if change.revision == number), None)
    if target is not None and target.chart_digest:
        return target.chart_digest
    told = _ROLLBACK.match(target.text) if target is not None else None
    undone = next((change for change in changes if target is None and change.undo_revision == number), None)
    restored = int(told[1]) if told is not None else undone.restore_revision if undone is not None else None
    if restored is not None and number < below:
        return _digest_of(restored, changes, below=number)
    if target is None:
        return ""
    # a rollback to a rollback: what it restored may be told by no number any more
    same = {
        change.chart_digest
        for change in changes
        if change.chart_digest and (change.chart_id, change.chart_version) == (target.chart_id, target.chart_version)
    }
    return same.pop() if target.chart_id and len(same) == 1 else ""


def _was_then(change: Change, row: RevisionRow) -> bool:
    written = row.last_deployed
    if written is None or written < change.created_at - _SKEW:
        return False
    return change.finished_at is None or written <= change.finished_at + _SKEW


def _cause(change: Change, cause: str) -> Cause:
    return Cause(
        cause,
        change.operation_id,
        change.request_id,
        change.user_id,
        change.user_name,
        change.state,
        change.finished_at,
    )

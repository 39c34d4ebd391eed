"""Classification of a release from one operation's view: pure functions, which neither read nor write.

Attempts observe the release, classify it, and carry out the step that ``worker.steps`` names for its state. If
ownership is uncertain, the revision is treated as foreign and left untouched.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from pilothouse.engine.helm_errors import tells_of_unreachable
from pilothouse.kubernetes.helm_secrets import LOCKED, OPERATION_LABEL, PENDING, UNINSTALLING, StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.states import Action, OperationState, ReleaseStatus
from pilothouse.store.operations import OperationRow

SUCCEEDED: Final = frozenset({ReleaseStatus.DEPLOYED, ReleaseStatus.SUPERSEDED})
FINAL: Final = SUCCEEDED | {ReleaseStatus.FAILED}
#: What an install may take the place of; another status under its base's number is another program's release.
REPLACEABLE: Final = frozenset({ReleaseStatus.FAILED, ReleaseStatus.UNINSTALLED})


@dataclass(frozen=True)
class ReleaseSnapshot:
    """The revisions of a release at one moment, oldest first."""

    revisions: tuple[ReleaseLabels, ...]

    @property
    def newest(self) -> ReleaseLabels | None:
        """The one that Helm acts on."""
        return self.revisions[-1] if self.revisions else None

    @property
    def last_deployed(self) -> int | None:
        """The number of the deployed revision; without one, of the newest that was."""
        for status in (ReleaseStatus.DEPLOYED, ReleaseStatus.SUPERSEDED):
            found = [one.revision for one in self.revisions if one.status == status]
            if found:
                return max(found)
        return None

    def find(self, revision: int | None) -> ReleaseLabels | None:
        """Return the revision of that number."""
        return next((one for one in self.revisions if one.revision == revision), None)

    def find_labelled(self, operation_id: str, *, after: int) -> ReleaseLabels | None:
        """Return the first revision after that one with the operation's label: later ones can have inherited it.

        If another program took the number that the operation was going to write, Helm has used the next one.
        """
        labelled = (one for one in self.revisions if one.labels.get(OPERATION_LABEL) == operation_id)
        return next((one for one in labelled if one.revision > after), None)

    def has_base_of(self, row: OperationRow) -> bool:
        """Return True if the revision still exists that an earlier attempt saw as the newest before it acted."""
        base = self.find(row.base_revision)
        return base is not None and base.uid == row.base_uid


class ReleaseState(StrEnum):
    """State of a release from the point of view of one operation."""

    ABSENT = "absent"  # it has no revision
    FREE = "free"  # its newest revision is final, and not known to be unfinished work of this operation
    UNTOUCHED = "untouched"  # a cancelled operation is all that there is: it has written nothing
    RECREATED = "recreated"  # what an uninstall began on is gone: another program made the release anew
    CHANGED = "changed"  # it changed while it was looked at
    STANDING = "standing"  # an uninstall has left its newest revision as it was
    OURS_FINAL = "ours, final"  # this operation's revision is there, and Helm has judged it
    OURS_PENDING = "ours, pending"  # this operation's revision is there, and its writer died
    CUT_OFF = "ours, cut off"  # this operation's revision failed as the cluster was out of reach: nobody judged it
    OVERTAKEN = "ours, overtaken"  # this operation's revision is unfinished, and another program's came after it
    CUT_OFF_OVERTAKEN = "ours, cut off, overtaken"  # the same of one that was cut off
    DISPLACED = "ours, displaced"  # another program took the number, and this operation's revision came after it
    DISPLACED_PENDING = "ours, displaced, pending"  # the same, and its writer died
    UNDOING = "undoing"  # nothing came after what the undo of this operation began on, but what it wrote itself
    FOREIGN_PENDING = "foreign, pending"  # locked by another program's install, upgrade or rollback
    FOREIGN_UNINSTALLING = "foreign, uninstalling"  # locked by another program's uninstall


#: What there is of a cancelled operation, to be undone or kept.
OURS: Final = frozenset({ReleaseState.OURS_FINAL, ReleaseState.OURS_PENDING})


def is_labelled(row: OperationRow) -> bool:
    """Return True if the operation's revisions carry its label; a rollback copies the labels of its target."""
    return row.action != Action.ROLLBACK


def is_written_by(row: OperationRow, stored: StoredRelease) -> bool:
    """Return True if the operation wrote a revision of the expected number.

    By its label; for a rollback by Helm's description: another writer of the same number made our call fail, or was no
    rollback.
    """
    if is_labelled(row):
        return stored.labels.get(OPERATION_LABEL) == row.id
    return stored.unlocked or stored.description.startswith("Rollback ")


def is_of_earlier_attempt(row: OperationRow, stored: StoredRelease, seen: ReleaseSnapshot) -> bool:
    """Return True if an attempt of the operation began the revision: also by the statuses that the action writes.

    For a rollback, only while the revision before it is the one that was committed.
    """
    if not is_written_by(row, stored) or stored.status not in FINAL | {f"pending-{row.action}"}:
        return False
    if is_labelled(row):
        return True
    base = seen.find(row.base_revision)
    return (
        base is not None
        and base.uid == row.base_uid
        and (base.resource_version == row.base_version or base.status == ReleaseStatus.SUPERSEDED)
    )


def classify(seen: ReleaseSnapshot, row: OperationRow, written: StoredRelease | None = None) -> ReleaseState:
    """Return the state of the release before the operation acts.

    ``written``: the revision under the number that an earlier attempt committed, or a later one with our label.
    """
    ours = None
    if row.last_writing_attempt is not None:
        ours = _classify_uninstall(seen, row) if row.action == Action.UNINSTALL else _classify_begun(seen, row, written)
    return ours or _classify_foreign(seen.newest)


def _classify_uninstall(seen: ReleaseSnapshot, row: OperationRow) -> ReleaseState | None:
    newest = seen.newest
    if newest is None:
        return None
    if not seen.has_base_of(row):
        return ReleaseState.RECREATED
    ours = newest.status == UNINSTALLING and newest.revision == row.base_revision
    return ReleaseState.OURS_PENDING if ours else None


def _classify_begun(seen: ReleaseSnapshot, row: OperationRow, written: StoredRelease | None) -> ReleaseState | None:
    # what an earlier attempt unlocked is closed for good: that attempt died before it could act again
    if written is None or written.unlocked or not is_of_earlier_attempt(row, written, seen):
        return None
    state, newest = classify_written(row, written), seen.newest
    if newest is None or newest.revision == written.revision:
        return state
    below = {ReleaseState.OURS_PENDING: ReleaseState.OVERTAKEN, ReleaseState.CUT_OFF: ReleaseState.CUT_OFF_OVERTAKEN}
    return below.get(state, state)


def classify_written(row: OperationRow, written: StoredRelease | None) -> ReleaseState:
    """Return the state of the revision that an engine call was to write; FREE if there is none of ours."""
    if written is None or not is_written_by(row, written):
        return ReleaseState.FREE
    if written.status not in FINAL:
        return ReleaseState.OURS_PENDING
    cut_off = written.status == ReleaseStatus.FAILED and tells_of_unreachable(written.description)
    return ReleaseState.CUT_OFF if cut_off else ReleaseState.OURS_FINAL


def classify_uninstalled(newest: ReleaseLabels, stored: StoredRelease | None, *, absent: bool) -> ReleaseState:
    """Return the state of the revision that an engine call was to remove last; ``stored`` has its number now."""
    if absent:
        return ReleaseState.ABSENT
    if stored is None or stored.uid != newest.uid:
        return ReleaseState.RECREATED
    return ReleaseState.OURS_PENDING if stored.status == UNINSTALLING else ReleaseState.STANDING


def classify_cancelled(
    seen: ReleaseSnapshot,
    row: OperationRow,
    stored: StoredRelease | None = None,
    written: StoredRelease | None = None,
) -> ReleaseState:
    """Return how the release of an operation is found that is being cancelled.

    ``stored``: the newest revision, which an install need not know: its label tells. ``written``: the revision that has
    the number that an update was going to write.
    """
    newest = seen.newest
    if newest is None:
        return ReleaseState.ABSENT
    if row.action == Action.INSTALL:
        ours = _unfinished(newest) if newest.labels.get(OPERATION_LABEL) == row.id else None
    elif stored is None or stored.uid != newest.uid:
        return ReleaseState.CHANGED
    elif row.undo_revision is not None:
        undone = stored.revision == row.undo_revision and is_of_earlier_attempt(as_undo(row), stored, seen)
        ours = ReleaseState.UNDOING if undone or _is_base(newest, row) else None
    elif row.action == Action.UNINSTALL:
        ours = _classify_touched(seen, row, stored)
    else:
        ours = _classify_update(seen, row, stored, written)
    untouched = _is_base(newest, row) and (row.action != Action.INSTALL or newest.status in REPLACEABLE)
    return ours or (ReleaseState.UNTOUCHED if untouched else _classify_foreign(newest))


def as_undo(row: OperationRow) -> OperationRow:
    """Return the operation as the rollback sees it that undoes it: begun is what the undo has begun."""
    begun = row.attempt if row.undo_revision is not None else None
    return replace(row, action=Action.ROLLBACK, revision=row.undo_revision, last_writing_attempt=begun)


def _classify_touched(seen: ReleaseSnapshot, row: OperationRow, stored: StoredRelease) -> ReleaseState | None:
    """Return the state of what an uninstall began on, if that is not as it was."""
    if not seen.has_base_of(row):
        return ReleaseState.RECREATED
    touched = stored.resource_version != row.base_version or _is_left_by(row, stored)
    return _unfinished(stored) if touched and stored.revision == row.base_revision else None


def _classify_update(
    seen: ReleaseSnapshot, row: OperationRow, stored: StoredRelease, written: StoredRelease | None
) -> ReleaseState | None:
    if written is not None and written.status in PENDING and is_of_earlier_attempt(row, written, seen):
        return ReleaseState.OURS_PENDING if written.uid == stored.uid else ReleaseState.OVERTAKEN
    taken = seen.find(row.revision)
    if is_labelled(row) and taken is not None and taken.labels.get(OPERATION_LABEL) != row.id:
        later = seen.find_labelled(row.id, after=taken.revision)
        if later is not None and later.uid == stored.uid:
            return ReleaseState.DISPLACED_PENDING if stored.status in PENDING else ReleaseState.DISPLACED
    if stored.revision == row.revision:
        ours = is_of_earlier_attempt(row, stored, seen)
    else:  # what an attempt before the last one left
        again = (row.last_writing_attempt or 0) > 1 and stored.status == ReleaseStatus.FAILED
        ours = _is_left_by(row, stored) or (again and is_written_by(row, stored))
    return _unfinished(stored) if ours else None


def _unfinished(newest: ReleaseLabels | StoredRelease) -> ReleaseState:
    return ReleaseState.OURS_PENDING if newest.status in LOCKED else ReleaseState.OURS_FINAL


def _is_left_by(row: OperationRow, stored: StoredRelease) -> bool:
    """Return whether an attempt of the operation unlocked it."""
    return stored.unlocked and f"operation {row.id}" in stored.description


def _is_base(newest: ReleaseLabels, row: OperationRow) -> bool:
    """Return whether it is what the operation began on; before that, what its request was based on."""
    return newest.revision == row.base_revision and row.base_uid in {"", newest.uid}


def _classify_foreign(newest: ReleaseLabels | None) -> ReleaseState:
    if newest is None:
        return ReleaseState.ABSENT
    if newest.status in PENDING:
        return ReleaseState.FOREIGN_PENDING
    return ReleaseState.FOREIGN_UNINSTALLING if newest.status == UNINSTALLING else ReleaseState.FREE


def has_completed(stored: StoredRelease) -> bool:
    """Return whether a cancelled operation had completed before its cancel took effect."""
    return stored.status == ReleaseStatus.DEPLOYED


def was_interrupted(stored: StoredRelease) -> bool:
    """Return whether the writer of the revision died, and could still send what it was about to."""
    return stored.status == ReleaseStatus.FAILED and stored.unlocked


class EndedState(StrEnum):
    """State of a release some time after an operation has ended, when it is checked again."""

    GONE = "gone"
    DEPLOYED = "deployed"
    UNREADABLE = "unreadable"  # it is deployed, and its manifest cannot be read: nothing can be said of its objects
    UNSETTLED = "unsettled"  # its newest revision is not the deployed one: Helm left it so
    TAKEN = "taken"  # another program's revision came while it was looked at
    TAKEN_HALFWAY = "taken halfway"  # the same, when something was deleted that the other may have taken for its own


def classify_ended(newest: ReleaseLabels | None, *, readable: bool = True) -> EndedState:
    """Return how the release is found; ``readable``: so is the manifest of the newest revision."""
    if newest is None:
        return EndedState.GONE
    if newest.status != ReleaseStatus.DEPLOYED:
        return EndedState.UNSETTLED
    return EndedState.DEPLOYED if readable else EndedState.UNREADABLE


def classify_repaired(before: ReleaseLabels | None, newest: ReleaseLabels | None, *, removed: bool) -> EndedState:
    """Return how it is found after its objects were read, and some ``removed``."""
    if newest == before:
        return classify_ended(newest)
    return EndedState.TAKEN_HALFWAY if removed else EndedState.TAKEN


def may_have_left_a_lock(row: OperationRow) -> bool:
    """Return whether an ended operation could have left a revision locked: the cluster was away when it ended."""
    return row.state == OperationState.FAILED and not row.wrote_revision

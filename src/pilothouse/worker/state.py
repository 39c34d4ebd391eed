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

    def find(self, revision: int | None) -> ReleaseLabels | None:
        """Return the revision of that number."""
        return next((candidate for candidate in self.revisions if candidate.revision == revision), None)

    def find_labelled(self, operation_id: str, *, after: int) -> ReleaseLabels | None:
        """Return the first revision after that one with the operation's label: later ones can have inherited it.

        If another program took the number that the operation was going to write, Helm has used the next one.
        """
        labelled = (candidate for candidate in self.revisions if candidate.labels.get(OPERATION_LABEL) == operation_id)
        return next((candidate for candidate in labelled if candidate.revision > after), None)

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
    KEPT = "uninstalled, history kept"  # an uninstall that was to leave the history has completed
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


def is_written_by(row: OperationRow, stored: StoredRelease, target: int | None = None) -> bool:
    """Return True if the operation wrote a revision of the expected number.

    By its label; for a rollback by the ``target`` that Helm stores: another writer of the same number made our call
    fail, or has another target. Without a target, because the order is unreadable, any rollback counts.
    """
    if is_labelled(row):
        return stored.labels.get(OPERATION_LABEL) == row.id
    if stored.rollback_revision and target:
        return stored.rollback_revision == target
    # an older Helm that has written the revision, or its status, left only the words
    told = stored.description == f"Rollback to {target}" if target else stored.description.startswith("Rollback ")
    return stored.unlocked or told or stored.rollback_revision > 0


def is_of_earlier_attempt(
    row: OperationRow, stored: StoredRelease, snapshot: ReleaseSnapshot, target: int | None = None
) -> bool:
    """Return True if an attempt of the operation began the revision: also by the statuses that the action writes.

    For a rollback, only while the revision before it is the one that was committed.
    """
    if not is_written_by(row, stored, target) or stored.status not in FINAL | {f"pending-{row.action}"}:
        return False
    if is_labelled(row):
        return True
    base = snapshot.find(row.base_revision)
    return (
        base is not None
        and base.uid == row.base_uid
        and (base.resource_version == row.base_version or base.status == ReleaseStatus.SUPERSEDED)
    )


def classify(
    snapshot: ReleaseSnapshot,
    row: OperationRow,
    written: StoredRelease | None = None,
    *,
    target: int | None = None,
    keeps_history: bool = False,
) -> ReleaseState:
    """Return the state of the release before the operation acts.

    ``written``: the revision under the number that an earlier attempt committed, or a later one with our label.
    ``target``: what a rollback goes back to. ``keeps_history``: it is an uninstall that leaves the revisions.
    """
    ours = None
    if row.last_writing_attempt is not None and row.action == Action.UNINSTALL:
        ours = _classify_uninstall(snapshot, row, keeps_history=keeps_history)
    elif row.last_writing_attempt is not None:
        ours = _classify_begun(snapshot, row, written, target)
    return ours or _classify_foreign(snapshot.newest)


def _classify_uninstall(snapshot: ReleaseSnapshot, row: OperationRow, *, keeps_history: bool) -> ReleaseState | None:
    newest = snapshot.newest
    if newest is None:
        return None
    if not snapshot.has_base_of(row):
        return ReleaseState.RECREATED
    if newest.revision != row.base_revision:
        return None
    if keeps_history and newest.status == ReleaseStatus.UNINSTALLED:
        return ReleaseState.KEPT
    return ReleaseState.OURS_PENDING if newest.status == UNINSTALLING else None


def _classify_begun(
    snapshot: ReleaseSnapshot, row: OperationRow, written: StoredRelease | None, target: int | None
) -> ReleaseState | None:
    # what an earlier attempt unlocked is closed for good: that attempt died before it could act again
    if written is None or written.unlocked or not is_of_earlier_attempt(row, written, snapshot, target):
        return None
    state, newest = classify_written(row, written, target), snapshot.newest
    if newest is None or newest.revision == written.revision:
        return state
    below = {ReleaseState.OURS_PENDING: ReleaseState.OVERTAKEN, ReleaseState.CUT_OFF: ReleaseState.CUT_OFF_OVERTAKEN}
    return below.get(state, state)


def classify_written(row: OperationRow, written: StoredRelease | None, target: int | None = None) -> ReleaseState:
    """Return the state of the revision that an engine call was to write; FREE if there is none of ours."""
    if written is None or not is_written_by(row, written, target):
        return ReleaseState.FREE
    if written.status not in FINAL:
        return ReleaseState.OURS_PENDING
    cut_off = written.status == ReleaseStatus.FAILED and tells_of_unreachable(written.description)
    return ReleaseState.CUT_OFF if cut_off else ReleaseState.OURS_FINAL


def classify_uninstalled(
    newest: ReleaseLabels, stored: StoredRelease | None, *, absent: bool, keeps_history: bool = False
) -> ReleaseState:
    """Return the state of the revision that an engine call was to remove last; ``stored`` has its number now."""
    if absent:
        return ReleaseState.ABSENT
    if stored is None or stored.uid != newest.uid:
        return ReleaseState.RECREATED
    if keeps_history and stored.status == ReleaseStatus.UNINSTALLED:
        return ReleaseState.KEPT
    return ReleaseState.OURS_PENDING if stored.status == UNINSTALLING else ReleaseState.STANDING


def classify_cancelled(
    snapshot: ReleaseSnapshot,
    row: OperationRow,
    stored: StoredRelease | None = None,
    written: StoredRelease | None = None,
    *,
    target: int | None = None,
) -> ReleaseState:
    """Return how the release of an operation is found that is being cancelled.

    ``stored``: the newest revision, which an install need not know: the labels tell. ``written``: the revision that has
    the number that an update was going to write. ``target``: what a rollback was to go back to.
    """
    newest = snapshot.newest
    if newest is None:
        return ReleaseState.ABSENT
    if row.action == Action.INSTALL:
        ours = _unfinished(newest) if _is_own_install(snapshot, row, newest) else None
    elif stored is None or stored.uid != newest.uid:
        return ReleaseState.CHANGED
    elif row.undo_revision is not None:
        undone = is_of_earlier_attempt(as_undo(row), stored, snapshot, row.restore_revision)
        undone = undone and stored.revision == row.undo_revision
        ours = ReleaseState.UNDOING if undone or _is_base(newest, row) else None
    elif row.action == Action.UNINSTALL:
        ours = _classify_touched(snapshot, row, stored)
    else:
        ours = _classify_update(snapshot, row, stored, written, target)
    untouched = _is_base(newest, row) and (row.action != Action.INSTALL or newest.status in REPLACEABLE)
    return ours or (ReleaseState.UNTOUCHED if untouched else _classify_foreign(newest))


def as_undo(row: OperationRow) -> OperationRow:
    """Return the operation as the rollback sees it that undoes it: begun is what the undo has begun."""
    begun = row.attempt if row.undo_revision is not None else None
    return replace(row, action=Action.ROLLBACK, revision=row.undo_revision, last_writing_attempt=begun)


def _classify_touched(snapshot: ReleaseSnapshot, row: OperationRow, stored: StoredRelease) -> ReleaseState | None:
    """Return the state of what an uninstall began on, if that is not as it was."""
    if not snapshot.has_base_of(row):
        return ReleaseState.RECREATED
    touched = stored.resource_version != row.base_version or _is_left_by(row, stored)
    return _unfinished(stored) if touched and stored.revision == row.base_revision else None


def _classify_update(
    snapshot: ReleaseSnapshot,
    row: OperationRow,
    stored: StoredRelease,
    written: StoredRelease | None,
    target: int | None,
) -> ReleaseState | None:
    if written is not None and written.status in PENDING and is_of_earlier_attempt(row, written, snapshot, target):
        return ReleaseState.OURS_PENDING if written.uid == stored.uid else ReleaseState.OVERTAKEN
    taken = snapshot.find(row.revision)
    if is_labelled(row) and taken is not None and taken.labels.get(OPERATION_LABEL) != row.id:
        later = snapshot.find_labelled(row.id, after=taken.revision)
        if later is not None and later.uid == stored.uid:
            return ReleaseState.DISPLACED_PENDING if stored.status in PENDING else ReleaseState.DISPLACED
    if stored.revision == row.revision:
        ours = is_of_earlier_attempt(row, stored, snapshot, target)
    else:  # what an attempt before the last one left; what came later can have inherited the label
        earlier = (row.last_writing_attempt or 0) > 1 and stored.revision < (row.revision or 0)
        again = earlier and stored.status == ReleaseStatus.FAILED
        ours = _is_left_by(row, stored) or (again and is_written_by(row, stored, target))
    return _unfinished(stored) if ours else None


def _is_own_install(snapshot: ReleaseSnapshot, row: OperationRow, newest: ReleaseLabels) -> bool:
    """Return whether an install of the operation wrote the newest revision: an update of it inherits the label."""
    if newest.labels.get(OPERATION_LABEL) != row.id:
        return False
    number = row.revision or 1
    first = snapshot.find_labelled(row.id, after=number - 1)
    # its own number, or the next one if another program took that
    return first is None or (first.uid == newest.uid and snapshot.find(number) is not None)


def is_resumed(row: OperationRow, stored: StoredRelease, snapshot: ReleaseSnapshot, target: int | None = None) -> bool:
    """Return whether the newest revision is what an earlier attempt has begun, or began on, and left so.

    Another program can have written the committed number after the attempt died before it wrote anything.
    """
    if row.last_writing_attempt is None:
        return False
    if (stored.revision, stored.uid, stored.resource_version) == (row.base_revision, row.base_uid, row.base_version):
        return True
    if row.action != Action.UNINSTALL:
        return stored.revision == row.revision and is_of_earlier_attempt(row, stored, snapshot, target)
    return stored.uid == row.base_uid and (stored.status == UNINSTALLING or _is_left_by(row, stored))


def version_before(row: OperationRow, newest: ReleaseLabels) -> str:
    """Return the version of the base by which an undo tells whether it was touched.

    For an uninstall that goes on with what it has locked, that is the version before it did.
    """
    begun = row.action == Action.UNINSTALL and row.last_writing_attempt is not None and newest.uid == row.base_uid
    return row.base_version if begun and newest.status == UNINSTALLING else newest.resource_version


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


def classify_failed(
    snapshot: ReleaseSnapshot, row: OperationRow, failed: StoredRelease | None, *, deployed: bool
) -> ReleaseState:
    """Return the state of a failed upgrade's revision; FREE if it is not the newest, or nothing was deployed before."""
    newest = snapshot.newest
    if failed is None or newest is None or newest.uid != failed.uid or not deployed:
        return ReleaseState.FREE
    return classify_written(row, failed)


class CheckedState(StrEnum):
    """State of a release whose newest revision is to be tested, or was."""

    GONE = "gone"
    AS_WRITTEN = "as it was written"
    MOVED = "moved"  # there is a newer revision, or another one of that number
    LOCKED = "locked"  # another program is writing it


def classify_tested(snapshot: ReleaseSnapshot, revision: int | None, uid: str) -> CheckedState:
    """Return how the release is found; ``uid`` is that of the revision's Secret, empty if it was not asked."""
    newest = snapshot.newest
    if newest is None:
        return CheckedState.GONE
    if newest.status in LOCKED:
        return CheckedState.LOCKED
    return CheckedState.AS_WRITTEN if newest.revision == revision and uid in {"", newest.uid} else CheckedState.MOVED


def is_to_be_undone(row: OperationRow, *, rolls_back: bool, failed: bool, wrote_revision: bool) -> bool:
    """Return whether what the operation wrote is undone before it ends.

    ``rolls_back``: its order says that a failure is undone. A failure that left no revision has changed nothing, and
    what is being undone already is not undone once more.
    """
    return rolls_back and failed and wrote_revision and row.cancelling_at is None


def may_have_ended_unseen(row: OperationRow) -> bool:
    """Return whether the cluster could have been away when the operation ended, so that something of it is left."""
    return row.state == OperationState.FAILED and not row.wrote_revision


def may_have_left_a_lock(row: OperationRow) -> bool:
    """Return whether what is left of it can be a locked revision; tests lock nothing."""
    return may_have_ended_unseen(row) and row.action != Action.TEST

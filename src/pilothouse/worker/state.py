"""Classification of a release from one operation's view, and the next step: pure functions and tables.

Nothing here reads or writes: attempts observe the release, classify it, and carry out the step that the table of their
action names. If ownership is uncertain, the revision is treated as foreign and left untouched.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

from pilothouse.engine.helm_errors import tells_of_unreachable
from pilothouse.kubernetes.helm_secrets import LOCKED, OPERATION_LABEL, PENDING, UNINSTALLING, StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.states import Action, ReleaseStatus
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
    OURS_FINAL = "ours, final"  # this operation's revision is there, and Helm has judged it
    OURS_PENDING = "ours, pending"  # this operation's revision is there, and its writer died
    CUT_OFF = "ours, cut off"  # this operation's revision failed as the cluster was out of reach: nobody judged it
    OVERTAKEN = "ours, overtaken"  # this operation's revision is unfinished, and another program's came between
    CUT_OFF_OVERTAKEN = "ours, cut off, overtaken"  # the same of one that was cut off
    UNDOING = "undoing"  # nothing came after what the undo of this operation began on, but what it wrote itself
    FOREIGN_PENDING = "foreign, pending"  # locked by another program's install, upgrade or rollback
    FOREIGN_UNINSTALLING = "foreign, uninstalling"  # locked by another program's uninstall


#: What there is of a cancelled operation, to be undone or kept.
OURS: Final = frozenset({ReleaseState.OURS_FINAL, ReleaseState.OURS_PENDING})


class Undo(StrEnum):
    """What is to come of an operation that is being cancelled."""

    INSTALL = "no release"  # of an install
    KEPT_INSTALL = "a failed release"  # of an install whose cancel says so
    DELETED_INSTALL = "no release, nor what it was to replace"  # of an install that a DELETE cancels
    UPDATE = "what was deployed before the update"
    UNINSTALL = "what was deployed, if all of it stands"


class Step(StrEnum):
    """Next step of an attempt."""

    RECORD = "record"  # what is there is the end
    COMPLETE = "complete"  # the same, after what belongs to the action and Helm does not do
    ACT = "act"
    UNLOCK_AND_ACT = "unlock and act"  # what the dead writer left locked is unlocked first, if it is locked
    REFUSE = "refuse"  # the operation has failed: another program holds the release
    ABANDON = "abandon"  # the operation has failed
    UNLOCK_AND_ABANDON = "unlock and abandon"  # the same, after what it left locked is unlocked
    RETRY = "retry"  # another attempt follows
    CRASH = "crash"  # another attempt follows, unless too many have ended like this
    LEAVE = "leave"  # there is nothing to undo
    KEEP = "keep"  # what was written stays, unlocked
    REMOVE = "remove"  # the release is uninstalled
    RESTORE = "restore"  # what was deployed before is rolled back to
    STOP = "stop"  # the operation is no longer this attempt's

    @property
    def writes(self) -> bool:
        """True if it changes something in the cluster."""
        return self in _WRITING


_WRITING = frozenset(
    {Step.COMPLETE, Step.ACT, Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ABANDON, Step.KEEP, Step.REMOVE, Step.RESTORE}
)

#: How a call of the engine ended. ``refused``: Helm's own answer. ``unreachable``: the cluster could not be reached at
#: some point. ``unavailable``: there was no engine, nothing was done. ``stopped``: killed at the deadline. ``crashed``:
#: the child died.
EngineStatus = Literal["done", "refused", "unreachable", "unavailable", "stopped", "crashed"]


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
    overtaken = newest is not None and newest.revision != written.revision
    return _BELOW_ANOTHER.get(state, state) if overtaken else state


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
    made_anew = stored is None or stored.uid != newest.uid
    return ReleaseState.RECREATED if made_anew else ReleaseState.OURS_PENDING


def classify_cancelled(seen: ReleaseSnapshot, row: OperationRow, stored: StoredRelease | None = None) -> ReleaseState:
    """Return how the release of an operation is found that is being cancelled.

    ``stored``: the newest revision, which an install need not know: its label tells.
    """
    newest = seen.newest
    if newest is None:
        return ReleaseState.ABSENT
    if row.action == Action.INSTALL:
        ours = _unfinished(newest) if newest.labels.get(OPERATION_LABEL) == row.id else None
    elif stored is None or stored.uid != newest.uid:
        return ReleaseState.CHANGED
    elif row.undo_revision is not None:
        written = stored.revision == row.undo_revision and is_of_earlier_attempt(as_undo(row), stored, seen)
        ours = ReleaseState.UNDOING if written or _is_base(newest, row) else None
    elif row.action == Action.UNINSTALL:
        ours = _classify_touched(seen, row, stored)
    else:
        ours = _classify_update(seen, row, stored)
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


def _classify_update(seen: ReleaseSnapshot, row: OperationRow, stored: StoredRelease) -> ReleaseState | None:
    taken = seen.find(row.revision)
    if is_labelled(row) and taken is not None and taken.labels.get(OPERATION_LABEL) != row.id:
        later = seen.find_labelled(row.id, after=taken.revision)
        if later is not None and later.uid == stored.uid:
            return ReleaseState.OVERTAKEN
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


def next_step(
    task: Action | Undo, state: ReleaseState, *, giving_up: bool = False, can_restore: bool = True, held: bool
) -> Step:
    """Return the next step for a release in that state.

    ``giving_up``: there is no further attempt. ``can_restore``: there is something to go back to. ``held``: the
    operation is held, as far as the attempt can know; otherwise nothing is written.
    """
    step = (_GIVE_UP if giving_up else _CARRY_OUT)[task, state]
    if step is Step.RESTORE and not can_restore:
        step = Step.REMOVE if task is Undo.UNINSTALL else Step.KEEP
    return step if held or not step.writes else Step.STOP


def step_after_call(status: EngineStatus, written: ReleaseState, *, held: bool) -> Step:
    """Return the next step after an engine call with that status, when its revision is found in that state."""
    step = _ENDED.get(written) or _AFTER_CALL[status][_COLUMN.get(written, 0)]
    return step if held or not step.writes else Step.STOP


_Table = dict[tuple[Action | Undo, ReleaseState], Step]
_Columns = tuple[tuple[Action | Undo, ...], ...]


def _table(columns: _Columns, rows: dict[ReleaseState, tuple[Step, ...]]) -> _Table:
    """Return the step for each task and state; in a state that is never found of a task, nothing is written."""
    doubt = (Step.ABANDON,) * len(columns)
    return {
        (task, state): step
        for state in ReleaseState
        for tasks, step in zip(columns, rows.get(state, doubt), strict=True)
        for task in tasks
    }


_CARRY_OUT = _table(
    ((Action.INSTALL,), (Action.UPGRADE, Action.ROLLBACK), (Action.UNINSTALL,)),
    {
        ReleaseState.ABSENT: (Step.ACT, Step.ABANDON, Step.RECORD),
        ReleaseState.FREE: (Step.ACT, Step.ACT, Step.ACT),
        ReleaseState.RECREATED: (Step.ABANDON, Step.ABANDON, Step.RECORD),
        ReleaseState.OURS_FINAL: (Step.COMPLETE, Step.COMPLETE, Step.ABANDON),
        ReleaseState.OURS_PENDING: (Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ACT),
        ReleaseState.CUT_OFF: (Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ACT, Step.ABANDON),
        ReleaseState.OVERTAKEN: (Step.UNLOCK_AND_ABANDON, Step.UNLOCK_AND_ABANDON, Step.ABANDON),
        ReleaseState.FOREIGN_PENDING: (Step.REFUSE, Step.REFUSE, Step.REFUSE),
        ReleaseState.FOREIGN_UNINSTALLING: (Step.REFUSE, Step.REFUSE, Step.ACT),
    },
) | _table(
    ((Undo.INSTALL,), (Undo.KEPT_INSTALL,), (Undo.DELETED_INSTALL,), (Undo.UPDATE,), (Undo.UNINSTALL,)),
    {
        ReleaseState.ABSENT: (Step.RECORD, Step.RECORD, Step.RECORD, Step.RECORD, Step.RECORD),
        ReleaseState.FREE: (Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.LEAVE),
        ReleaseState.UNTOUCHED: (Step.LEAVE, Step.LEAVE, Step.REMOVE, Step.LEAVE, Step.LEAVE),
        ReleaseState.RECREATED: (Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.RECORD),
        ReleaseState.CHANGED: (Step.RETRY, Step.RETRY, Step.RETRY, Step.RETRY, Step.RETRY),
        ReleaseState.OURS_FINAL: (Step.REMOVE, Step.KEEP, Step.REMOVE, Step.RESTORE, Step.RESTORE),
        ReleaseState.OURS_PENDING: (Step.REMOVE, Step.KEEP, Step.REMOVE, Step.RESTORE, Step.RESTORE),
        ReleaseState.OVERTAKEN: (Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.KEEP, Step.LEAVE),
        ReleaseState.UNDOING: (Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.RESTORE, Step.RESTORE),
        ReleaseState.FOREIGN_PENDING: (Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.REFUSE, Step.REFUSE),
        ReleaseState.FOREIGN_UNINSTALLING: (Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.REFUSE, Step.REFUSE),
    },
)
# The end of a cancelled update is that of the update, or of its undo.
_GIVE_UP = _table(
    (
        (Action.INSTALL, Action.UPGRADE, Action.ROLLBACK, Undo.UPDATE),
        (Action.UNINSTALL,),
        (Undo.INSTALL, Undo.KEPT_INSTALL),
        (Undo.DELETED_INSTALL,),
        (Undo.UNINSTALL,),
    ),
    {
        ReleaseState.ABSENT: (Step.ABANDON, Step.RECORD, Step.RECORD, Step.RECORD, Step.RECORD),
        ReleaseState.FREE: (Step.ABANDON, Step.ABANDON, Step.LEAVE, Step.LEAVE, Step.LEAVE),
        ReleaseState.UNTOUCHED: (Step.ABANDON, Step.ABANDON, Step.LEAVE, Step.ABANDON, Step.LEAVE),
        ReleaseState.RECREATED: (Step.ABANDON, Step.ABANDON, Step.LEAVE, Step.LEAVE, Step.RECORD),
        ReleaseState.CHANGED: (Step.RETRY, Step.RETRY, Step.RETRY, Step.RETRY, Step.RETRY),
        ReleaseState.OURS_FINAL: (Step.RECORD, Step.ABANDON, Step.ABANDON, Step.ABANDON, Step.UNLOCK_AND_ABANDON),
        ReleaseState.OURS_PENDING: (Step.UNLOCK_AND_ABANDON,) * 5,
        ReleaseState.CUT_OFF: (Step.RECORD, Step.ABANDON, Step.ABANDON, Step.ABANDON, Step.ABANDON),
        ReleaseState.OVERTAKEN: (Step.UNLOCK_AND_ABANDON, Step.ABANDON, Step.ABANDON, Step.ABANDON, Step.ABANDON),
        ReleaseState.CUT_OFF_OVERTAKEN: (Step.RECORD, Step.ABANDON, Step.ABANDON, Step.ABANDON, Step.ABANDON),
        ReleaseState.FOREIGN_PENDING: (Step.ABANDON, Step.ABANDON, Step.LEAVE, Step.LEAVE, Step.REFUSE),
        ReleaseState.FOREIGN_UNINSTALLING: (Step.ABANDON, Step.ABANDON, Step.LEAVE, Step.LEAVE, Step.REFUSE),
    },
)
_BELOW_ANOTHER = {
    ReleaseState.OURS_PENDING: ReleaseState.OVERTAKEN,
    ReleaseState.CUT_OFF: ReleaseState.CUT_OFF_OVERTAKEN,
}
_ENDED: dict[ReleaseState, Step] = {
    ReleaseState.ABSENT: Step.RECORD,
    ReleaseState.RECREATED: Step.RECORD,
    ReleaseState.OURS_FINAL: Step.COMPLETE,
}
# A refusal is Helm's own answer. What a cluster out of reach left counts as a crash once it is stored, for each further
# attempt leaves a revision; before that the deadline is the limit.
_AFTER_CALL: dict[EngineStatus, tuple[Step, Step, Step]] = {
    # nothing of ours, ours cut off, ours pending
    "done": (Step.ABANDON, Step.COMPLETE, Step.CRASH),
    "refused": (Step.ABANDON, Step.COMPLETE, Step.UNLOCK_AND_ABANDON),
    "stopped": (Step.ABANDON, Step.COMPLETE, Step.UNLOCK_AND_ABANDON),
    "unreachable": (Step.RETRY, Step.CRASH, Step.RETRY),
    "unavailable": (Step.RETRY, Step.COMPLETE, Step.RETRY),
    "crashed": (Step.CRASH, Step.COMPLETE, Step.CRASH),
}
_COLUMN = {ReleaseState.CUT_OFF: 1, ReleaseState.OURS_PENDING: 2}

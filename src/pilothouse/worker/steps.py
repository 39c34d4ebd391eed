"""The next step of an attempt for each task and each state of the release: tables, without a default.

A cell is a step, or says why the task never finds the release in that state. If it does nevertheless, the attempt is
broken, which counts as a crash: nothing is written on a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeVar

from pilothouse.states import Action
from pilothouse.store.operations import OperationRow
from pilothouse.worker.state import OURS, CheckedState, EndedState, ReleaseSnapshot, ReleaseState

StateT = TypeVar("StateT", bound=StrEnum | str)


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
    UNLOCK_AND_LOOK = "unlock and look"  # what it left locked is unlocked, and the release looked at again
    RETRY = "retry"  # another attempt follows
    CRASH = "crash"  # another attempt follows, unless too many have ended like this
    LEAVE = "leave"  # there is nothing to undo
    KEEP = "keep"  # what was written stays
    UNLOCK_AND_KEEP = "unlock and keep"
    REMOVE = "remove"  # the release is uninstalled
    UNLOCK_AND_REMOVE = "unlock and remove"
    RESTORE = "restore"  # what was deployed before is rolled back to
    UNLOCK_AND_RESTORE = "unlock and restore"
    REAPPLY = "apply again"  # the objects of the deployed revision, without those that only interrupted ones had
    CLEAN_UP = "clean up"  # what a failed upgrade, or the tests of an interrupted attempt, created is deleted
    STOP = "stop"  # the operation is no longer this attempt's

    @property
    def writes(self) -> bool:
        """True if it changes something in the cluster."""
        return self not in _SILENT


_SILENT: Final = frozenset({"record", "refuse", "abandon", "retry", "crash", "leave", "keep", "stop"})

#: How a call of the engine ended. ``refused``: Helm's own answer. ``unreachable``: the cluster could not be reached at
#: some point. ``unavailable``: there was no engine, nothing was done. ``taken``: another writer has made the revision
#: that was to be made, nothing was done. ``stopped``: killed at the deadline. ``crashed``: the child died.
EngineStatus = Literal["done", "refused", "unreachable", "unavailable", "taken", "stopped", "crashed"]
#: In none of these calls was anything done: there is nothing to look at.
NOTHING_DONE: Final = frozenset({"unavailable"})


class ImpossibleState(RuntimeError):
    """A release was found in a state in which the task cannot find it."""


@dataclass(frozen=True)
class _Never:
    reason: str


_CANCELLED = _Never("only a cancelled operation is classified so")
_AFTER_CALL = _Never("only after a call of the engine is the release classified so")
_ONLY_UNINSTALL = _Never("only an uninstall has begun on a release that can be made anew")
_ONLY_KEEPING = _Never("only an uninstall that was to leave the history, and no undo, is found so")
_WRITES_NONE = _Never("an uninstall writes no revision of its own")
_BY_LABEL = _Never("what an install wrote is told by its label alone, when it is the newest")
_WRITTEN_ONLY = _Never("what is undone is what was written, whoever judged it")
_AS_ACTION = _Never("the end of a cancelled update, and of a begun undo, is that of the update or the rollback")
_BEFORE_CALL = _Never("only before a call of the engine is the release classified so")

_Cell = Step | _Never
_Table = dict[tuple[Action | Undo, ReleaseState], _Cell]


def next_step(
    task: Action | Undo, state: ReleaseState, *, giving_up: bool = False, can_restore: bool = True, held: bool
) -> Step:
    """Return the next step for a release in that state.

    ``giving_up``: there is no further attempt. ``can_restore``: there is something to go back to. ``held``: the
    operation is held, as far as the attempt can know; otherwise nothing is written.
    """
    cell = (GIVE_UP if giving_up else CARRY_OUT)[task, state]
    if not can_restore and isinstance(cell, Step):
        cell = _WITHOUT_GOAL.get((task, cell), cell)
    return _unless_lost(cell, held=held)


def step_after_call(status: EngineStatus, written: ReleaseState, *, held: bool) -> Step:
    """Return the next step after an engine call with that status, when its revision is found in that state."""
    return _unless_lost(AFTER_CALL[status, written], held=held)


def step_of(table: Mapping[StateT, Step], state: StateT, *, held: bool) -> Step:
    """Return the next step where the state alone decides."""
    return _unless_lost(table[state], held=held)


def may_still_change(task: Undo, state: ReleaseState, seen: ReleaseSnapshot, row: OperationRow) -> bool:
    """Return whether a request that the dead child had sent can still change what is found in that state."""
    if row.last_writing_attempt is None or row.undo_revision is not None:
        return False
    if task is Undo.UPDATE:
        return seen.newest is not None and seen.newest.revision != row.revision
    return state is ReleaseState.UNTOUCHED if task is Undo.UNINSTALL else state not in OURS


def _unless_lost(cell: _Cell, *, held: bool) -> Step:
    if isinstance(cell, _Never):
        raise ImpossibleState(f"the release was found in a state in which it cannot be: {cell.reason}")
    return cell if held or not cell.writes else Step.STOP


def _table(
    columns: tuple[tuple[Action | Undo, ...], ...], rows: dict[ReleaseState, tuple[_Cell, ...] | _Never]
) -> _Table:
    """Return the cell of each task and state; a row of one reason is that of every task."""
    return {
        (task, state): cell
        for state, row in rows.items()
        for tasks, cell in zip(columns, row if isinstance(row, tuple) else (row,) * len(columns), strict=True)
        for task in tasks
    }


CARRY_OUT: Final = _table(
    ((Action.INSTALL,), (Action.UPGRADE, Action.ROLLBACK), (Action.UNINSTALL,)),
    {
        ReleaseState.ABSENT: (Step.ACT, Step.ABANDON, Step.RECORD),
        ReleaseState.FREE: (Step.ACT, Step.ACT, Step.ACT),
        ReleaseState.UNTOUCHED: _CANCELLED,
        ReleaseState.RECREATED: (_ONLY_UNINSTALL, _ONLY_UNINSTALL, Step.RECORD),
        ReleaseState.CHANGED: _CANCELLED,
        ReleaseState.KEPT: (_ONLY_KEEPING, _ONLY_KEEPING, Step.RECORD),
        ReleaseState.STANDING: _AFTER_CALL,
        ReleaseState.OURS_FINAL: (Step.COMPLETE, Step.COMPLETE, _WRITES_NONE),
        ReleaseState.OURS_PENDING: (Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ACT),
        ReleaseState.CUT_OFF: (Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ACT, _WRITES_NONE),
        ReleaseState.OVERTAKEN: (Step.UNLOCK_AND_ABANDON, Step.UNLOCK_AND_ABANDON, _WRITES_NONE),
        ReleaseState.CUT_OFF_OVERTAKEN: (Step.ABANDON, Step.ABANDON, _WRITES_NONE),
        ReleaseState.DISPLACED: _CANCELLED,
        ReleaseState.DISPLACED_PENDING: _CANCELLED,
        ReleaseState.UNDOING: _CANCELLED,
        ReleaseState.FOREIGN_PENDING: (Step.REFUSE, Step.REFUSE, Step.REFUSE),
        ReleaseState.FOREIGN_UNINSTALLING: (Step.REFUSE, Step.REFUSE, Step.ACT),
    },
) | _table(
    ((Undo.INSTALL,), (Undo.KEPT_INSTALL,), (Undo.DELETED_INSTALL,), (Undo.UPDATE,), (Undo.UNINSTALL,)),
    {
        ReleaseState.ABSENT: (Step.RECORD,) * 5,
        ReleaseState.FREE: (Step.LEAVE,) * 5,
        ReleaseState.UNTOUCHED: (Step.LEAVE, Step.LEAVE, Step.REMOVE, Step.LEAVE, Step.LEAVE),
        ReleaseState.RECREATED: (*(_ONLY_UNINSTALL,) * 4, Step.RECORD),
        ReleaseState.CHANGED: (_BY_LABEL, _BY_LABEL, _BY_LABEL, Step.RETRY, Step.RETRY),
        ReleaseState.KEPT: _ONLY_KEEPING,
        ReleaseState.STANDING: _AFTER_CALL,
        ReleaseState.OURS_FINAL: (Step.REMOVE, Step.KEEP, Step.REMOVE, Step.RESTORE, Step.RESTORE),
        ReleaseState.OURS_PENDING: (
            *(Step.UNLOCK_AND_REMOVE, Step.UNLOCK_AND_KEEP, Step.UNLOCK_AND_REMOVE),
            *(Step.UNLOCK_AND_LOOK, Step.UNLOCK_AND_RESTORE),
        ),
        ReleaseState.CUT_OFF: _WRITTEN_ONLY,
        ReleaseState.OVERTAKEN: (_BY_LABEL, _BY_LABEL, _BY_LABEL, Step.UNLOCK_AND_LOOK, _WRITES_NONE),
        ReleaseState.CUT_OFF_OVERTAKEN: _WRITTEN_ONLY,
        ReleaseState.DISPLACED: (_BY_LABEL, _BY_LABEL, _BY_LABEL, Step.KEEP, _WRITES_NONE),
        ReleaseState.DISPLACED_PENDING: (_BY_LABEL, _BY_LABEL, _BY_LABEL, Step.UNLOCK_AND_KEEP, _WRITES_NONE),
        ReleaseState.UNDOING: (_BY_LABEL, _BY_LABEL, _BY_LABEL, Step.RESTORE, Step.RESTORE),
        ReleaseState.FOREIGN_PENDING: (Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.REFUSE, Step.REFUSE),
        ReleaseState.FOREIGN_UNINSTALLING: (Step.LEAVE, Step.LEAVE, Step.LEAVE, Step.REFUSE, Step.REFUSE),
    },
)
#: Without a revision to go back to, a release stays as the update left it, and an uninstall is completed.
_WITHOUT_GOAL: Final[dict[tuple[Action | Undo, Step], Step]] = {
    (Undo.UPDATE, Step.RESTORE): Step.KEEP,
    (Undo.UNINSTALL, Step.RESTORE): Step.REMOVE,
    (Undo.UNINSTALL, Step.UNLOCK_AND_RESTORE): Step.UNLOCK_AND_REMOVE,
}
GIVE_UP: Final = _table(
    (
        (Action.INSTALL, Action.UPGRADE, Action.ROLLBACK),
        (Action.UNINSTALL,),
        (Undo.INSTALL, Undo.KEPT_INSTALL),
        (Undo.DELETED_INSTALL,),
        (Undo.UNINSTALL,),
    ),
    {
        ReleaseState.ABSENT: (Step.ABANDON, Step.RECORD, Step.RECORD, Step.RECORD, Step.RECORD),
        ReleaseState.FREE: (Step.ABANDON, Step.ABANDON, Step.LEAVE, Step.LEAVE, Step.LEAVE),
        ReleaseState.UNTOUCHED: (_CANCELLED, _CANCELLED, Step.LEAVE, Step.ABANDON, Step.LEAVE),
        ReleaseState.RECREATED: (_ONLY_UNINSTALL, Step.ABANDON, _ONLY_UNINSTALL, _ONLY_UNINSTALL, Step.RECORD),
        ReleaseState.CHANGED: (_CANCELLED, _CANCELLED, _BY_LABEL, _BY_LABEL, Step.RETRY),
        ReleaseState.KEPT: (_ONLY_KEEPING, Step.RECORD, _ONLY_KEEPING, _ONLY_KEEPING, _ONLY_KEEPING),
        ReleaseState.STANDING: _AFTER_CALL,
        ReleaseState.OURS_FINAL: (Step.RECORD, _WRITES_NONE, Step.ABANDON, Step.ABANDON, Step.UNLOCK_AND_ABANDON),
        ReleaseState.OURS_PENDING: (Step.UNLOCK_AND_ABANDON,) * 5,
        ReleaseState.CUT_OFF: (Step.RECORD, _WRITES_NONE, _WRITTEN_ONLY, _WRITTEN_ONLY, _WRITES_NONE),
        ReleaseState.OVERTAKEN: (Step.UNLOCK_AND_ABANDON, _WRITES_NONE, _BY_LABEL, _BY_LABEL, _WRITES_NONE),
        ReleaseState.CUT_OFF_OVERTAKEN: (Step.RECORD, _WRITES_NONE, _WRITTEN_ONLY, _WRITTEN_ONLY, _WRITES_NONE),
        ReleaseState.DISPLACED: (_CANCELLED, _CANCELLED, _BY_LABEL, _BY_LABEL, _WRITES_NONE),
        ReleaseState.DISPLACED_PENDING: (_CANCELLED, _CANCELLED, _BY_LABEL, _BY_LABEL, _WRITES_NONE),
        ReleaseState.UNDOING: (_CANCELLED, _CANCELLED, _BY_LABEL, _BY_LABEL, _AS_ACTION),
        ReleaseState.FOREIGN_PENDING: (Step.ABANDON, Step.ABANDON, Step.LEAVE, Step.LEAVE, Step.REFUSE),
        ReleaseState.FOREIGN_UNINSTALLING: (Step.ABANDON, Step.ABANDON, Step.LEAVE, Step.LEAVE, Step.REFUSE),
    },
) | dict.fromkeys(((Undo.UPDATE, state) for state in ReleaseState), _AS_ACTION)

_STATUSES: Final[tuple[EngineStatus, ...]] = (
    *("done", "refused", "stopped", "unreachable", "unavailable", "taken", "crashed"),
)
# A refusal is Helm's own answer. What a cluster out of reach left counts as a crash once it is stored, for each further
# attempt leaves a revision; before that the deadline is the limit.
_AFTER: Final[dict[ReleaseState, tuple[_Cell, ...]]] = {
    ReleaseState.ABSENT: (Step.RECORD,) * 7,
    ReleaseState.FREE: (Step.ABANDON, Step.ABANDON, Step.ABANDON, Step.RETRY, Step.RETRY, Step.RETRY, Step.CRASH),
    ReleaseState.RECREATED: (Step.RECORD,) * 7,
    ReleaseState.KEPT: (Step.RECORD,) * 7,
    ReleaseState.STANDING: (Step.CRASH, Step.ABANDON, Step.ABANDON, Step.RETRY, Step.RETRY, Step.RETRY, Step.CRASH),
    ReleaseState.OURS_FINAL: (Step.COMPLETE,) * 7,
    ReleaseState.OURS_PENDING: (
        *(Step.CRASH, Step.UNLOCK_AND_ABANDON, Step.UNLOCK_AND_ABANDON, Step.RETRY, Step.RETRY, Step.RETRY, Step.CRASH),
    ),
    ReleaseState.CUT_OFF: (Step.COMPLETE, Step.COMPLETE, Step.COMPLETE, Step.CRASH, *(Step.COMPLETE,) * 3),
    **dict.fromkeys((ReleaseState.UNTOUCHED, ReleaseState.CHANGED, ReleaseState.UNDOING), (_BEFORE_CALL,) * 7),
    **dict.fromkeys((ReleaseState.OVERTAKEN, ReleaseState.CUT_OFF_OVERTAKEN), (_BEFORE_CALL,) * 7),
    **dict.fromkeys((ReleaseState.DISPLACED, ReleaseState.DISPLACED_PENDING), (_BEFORE_CALL,) * 7),
    **dict.fromkeys((ReleaseState.FOREIGN_PENDING, ReleaseState.FOREIGN_UNINSTALLING), (_BEFORE_CALL,) * 7),
}
AFTER_CALL: Final = {
    (status, state): cell for state, row in _AFTER.items() for status, cell in zip(_STATUSES, row, strict=True)
}
#: Of a repair, which nothing is certain to follow.
REPAIR: Final = {
    EndedState.GONE: Step.REMOVE,
    EndedState.DEPLOYED: Step.REAPPLY,
    EndedState.UNREADABLE: Step.LEAVE,
    EndedState.UNSETTLED: Step.LEAVE,
    EndedState.TAKEN: Step.LEAVE,
    EndedState.TAKEN_HALFWAY: Step.RETRY,
}
#: Only what Helm has judged, and nobody has come after, is known to be this operation's own.
CLEAN_UP: Final = {
    **dict.fromkeys(ReleaseState, Step.LEAVE),
    **dict.fromkeys((ReleaseState.OURS_FINAL, ReleaseState.CUT_OFF), Step.CLEAN_UP),
}
#: Tests are run on the revision that they were ordered for, and on no other.
CHECK: Final = {
    CheckedState.GONE: Step.ABANDON,
    CheckedState.AS_WRITTEN: Step.ACT,
    CheckedState.MOVED: Step.ABANDON,
    CheckedState.LOCKED: Step.REFUSE,
}
AFTER_CHECK: Final[dict[EngineStatus, Step]] = {
    "done": Step.RECORD,
    "refused": Step.ABANDON,
    "stopped": Step.CLEAN_UP,
    "unreachable": Step.RETRY,
    "unavailable": Step.RETRY,
    "taken": Step.RETRY,
    "crashed": Step.CRASH,
}
#: The objects of interrupted tests go, whatever became of the revision; without a record nobody knows them.
STOP_CHECK: Final = {state: Step.LEAVE if state is CheckedState.GONE else Step.CLEAN_UP for state in CheckedState}

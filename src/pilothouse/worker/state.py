"""Classification of a release from one operation's view, and the next step: pure functions and tables.

Nothing here reads or writes: attempts observe the release, classify it, and carry out the step that the table of their
action names. If ownership is uncertain, the revision is treated as foreign and left untouched.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from pilothouse.engine.helm_errors import tells_of_unreachable
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL, PENDING, UNINSTALLING, StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.states import Action, ReleaseStatus
from pilothouse.store.operations import OperationRow

SUCCEEDED: Final = frozenset({ReleaseStatus.DEPLOYED, ReleaseStatus.SUPERSEDED})
FINAL: Final = SUCCEEDED | {ReleaseStatus.FAILED}


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

    #: It has no revision.
    ABSENT = "absent"
    #: Its newest revision is final, and none that this operation is known to have written and left unfinished.
    FREE = "free"
    #: An uninstall had begun, and what it began on is gone: another program made the release anew.
    RECREATED = "recreated"
    #: This operation's revision is there, and Helm has judged it.
    OURS_FINAL = "ours, final"
    #: This operation's revision is there, and its writer died.
    OURS_PENDING = "ours, pending"
    #: This operation's revision failed because the cluster could not be reached: nobody has judged it.
    CUT_OFF = "ours, cut off"
    #: As OURS_PENDING, but another program's revision came after it.
    OVERTAKEN = "ours, pending, overtaken"
    #: As CUT_OFF, but another program's revision came after it.
    CUT_OFF_OVERTAKEN = "ours, cut off, overtaken"
    #: The newest revision is locked by another program's install, upgrade or rollback.
    FOREIGN_PENDING = "foreign, pending"
    #: The newest revision is locked by another program's uninstall.
    FOREIGN_UNINSTALLING = "foreign, uninstalling"


class Step(StrEnum):
    """Next step of an attempt."""

    #: What is there is the end.
    RECORD = "record"
    #: What is there is the end, after what belongs to the action and Helm does not do.
    COMPLETE = "complete"
    #: The action is done.
    ACT = "act"
    #: What the dead writer left locked is unlocked, and the action is done again.
    UNLOCK_AND_ACT = "unlock and act"
    #: The operation has failed: another program holds the release.
    REFUSE = "refuse"
    #: The operation has failed.
    ABANDON = "abandon"
    #: The operation has failed, and what it left locked is unlocked.
    UNLOCK_AND_ABANDON = "unlock and abandon"
    #: Another attempt follows.
    RETRY = "retry"
    #: Another attempt follows, unless too many have ended like this.
    CRASH = "crash"
    #: Nothing: the operation is no longer this attempt's.
    STOP = "stop"

    @property
    def writes(self) -> bool:
        """True if it changes something in the cluster."""
        return self in {Step.COMPLETE, Step.ACT, Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ABANDON}


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


def _classify_foreign(newest: ReleaseLabels | None) -> ReleaseState:
    if newest is None:
        return ReleaseState.ABSENT
    if newest.status in PENDING:
        return ReleaseState.FOREIGN_PENDING
    return ReleaseState.FOREIGN_UNINSTALLING if newest.status == UNINSTALLING else ReleaseState.FREE


def next_step(action: Action, state: ReleaseState, *, giving_up: bool = False, held: bool) -> Step:
    """Return the next step for a release in that state.

    ``giving_up``: there is no further attempt. ``held``: the operation is held, as far as the attempt can know;
    otherwise nothing is written.
    """
    step = (_GIVE_UP if giving_up else _CARRY_OUT)[state][action]
    return step if held or not step.writes else Step.STOP


def step_after_call(status: EngineStatus, written: ReleaseState, *, held: bool) -> Step:
    """Return the next step after an engine call with that status, when its revision is found in that state."""
    step = _ENDED.get(written) or _AFTER_CALL[status][_COLUMN.get(written, 0)]
    return step if held or not step.writes else Step.STOP


def _table(
    columns: tuple[tuple[Action, ...], ...], rows: dict[ReleaseState, tuple[Step, ...]]
) -> dict[ReleaseState, dict[Action, Step]]:
    return {
        state: {action: step for actions, step in zip(columns, steps, strict=True) for action in actions}
        for state, steps in rows.items()
    }


# What is never found of an action is decided like doubt: nothing is written.
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
        ReleaseState.CUT_OFF_OVERTAKEN: (Step.ABANDON, Step.ABANDON, Step.ABANDON),
        ReleaseState.FOREIGN_PENDING: (Step.REFUSE, Step.REFUSE, Step.REFUSE),
        ReleaseState.FOREIGN_UNINSTALLING: (Step.REFUSE, Step.REFUSE, Step.ACT),
    },
)
_GIVE_UP = _table(
    ((Action.INSTALL, Action.UPGRADE, Action.ROLLBACK), (Action.UNINSTALL,)),
    {
        ReleaseState.ABSENT: (Step.ABANDON, Step.RECORD),
        ReleaseState.FREE: (Step.ABANDON, Step.ABANDON),
        ReleaseState.RECREATED: (Step.ABANDON, Step.ABANDON),
        ReleaseState.OURS_FINAL: (Step.RECORD, Step.ABANDON),
        ReleaseState.OURS_PENDING: (Step.UNLOCK_AND_ABANDON, Step.UNLOCK_AND_ABANDON),
        ReleaseState.CUT_OFF: (Step.RECORD, Step.ABANDON),
        ReleaseState.OVERTAKEN: (Step.UNLOCK_AND_ABANDON, Step.ABANDON),
        ReleaseState.CUT_OFF_OVERTAKEN: (Step.RECORD, Step.ABANDON),
        ReleaseState.FOREIGN_PENDING: (Step.ABANDON, Step.ABANDON),
        ReleaseState.FOREIGN_UNINSTALLING: (Step.ABANDON, Step.ABANDON),
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

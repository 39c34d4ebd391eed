"""What the documentation promises about cancelled operations, as rows: what is found, and what becomes of it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.store.operations import OperationRow
from pilothouse.worker.state import ReleaseState, classify_cancelled, version_before
from pilothouse.worker.steps import CARRY_OUT, Step, Undo, next_step
from tests.support.revisions import (
    BEFORE,
    BROKEN,
    FIRST,
    FOREIGN,
    HISTORIES,
    OURS,
    OVERTAKEN,
    PROMISES,
    RECREATED,
    REFUSED,
    ROWS,
    SECOND,
    Revision,
    begun,
    operation,
    seen,
)

INSTALL_UNDOS = (Undo.INSTALL, Undo.KEPT_INSTALL, Undo.DELETED_INSTALL)
REPLACED = "that release existed before and nobody asked to remove it"
INSTALL_UNDONE = "| install | DELETING | uninstalled: 404"
INSTALL_KEPT = "FAILED, with the objects created so far; it can be updated or deleted"
UPDATE_UNDONE = "the previously deployed revision is DEPLOYED again as the next revision; FAILED if there was none"
DEPLOYED_TOO = "An upgrade that became `deployed` just before its child was killed is rolled back too"
NOWHERE_TO_GO = "Only if there is nothing to go back to does it remain, and the operation has succeeded."
UNINSTALL_UNDONE = "An uninstall is undone only while every object exists"
COMPLETED = "A completed uninstall is `succeeded`"
ENDED_BEFORE = "as is an operation that ended before the cancel took effect and has nothing to go back to"
DISPLACED = "An update whose number another program took is not rolled back"
CARRIED_ON = "Other workers take it over like any attempt"


#: What is done when there is no further attempt.
GIVEN_UP = {Step.RECORD, Step.REFUSE, Step.ABANDON, Step.UNLOCK_AND_ABANDON, Step.RETRY, Step.LEAVE}
UNDO_OF = {
    "install": INSTALL_UNDOS,
    "upgrade": (Undo.UPDATE,),
    "rollback": (Undo.UPDATE,),
    "uninstall": (Undo.UNINSTALL,),
}


@dataclass(frozen=True)
class UndoRow:
    """A sentence of ``PAGES`` about a cancel, a situation that it is about, and what is done in it.

    ``whole``: what was deployed is there to go back to. ``given_up``: what is done when there is no further attempt; of
    updates that is decided by the update or its undo.
    """

    sentence: str
    task: Undo
    operation: OperationRow
    found: Sequence[Revision]
    state: ReleaseState
    step: Step
    given_up: Step | None = None
    whole: bool = True

    def __str__(self) -> str:
        return f"{self.task.name}: {self.state}"


INSTALLING = begun("install", number=1, base=None)
REPLACING = begun("install", number=2, base=Revision(1, "failed"))
#: The second attempt's, over what the first has left.
INSTALLING_AGAIN = replace(begun("install", number=2, base=Revision(1, "failed", OURS)), last_writing_attempt=2)
UPGRADING = begun("upgrade", number=2, base=FIRST)
ROLLING_BACK = begun("rollback", number=3, base=SECOND)
UNINSTALLING = begun("uninstall", number=1, base=FIRST)
TOUCHED = replace(FIRST, status="uninstalling", version="2")
LEFT = Revision(2, "failed", OURS, f"Cancelled; unlocked by Pilothouse (operation {OURS}, attempt 1)", unlocked=True)
#: The upgrade's undo began on the unlocked revision 2, and is to write revision 3.
UNDONE = replace(
    begun("upgrade", number=2, base=LEFT), undo_revision=3, restore_revision=1, state="cancelling", attempt=3
)
UNDO_ROWS = (
    *(
        UndoRow(sentence, task, INSTALLING, [Revision(1, status, OURS)], state, step, given_up)
        for sentence, task, final, pending in (
            (INSTALL_UNDONE, Undo.INSTALL, Step.REMOVE, Step.UNLOCK_AND_REMOVE),
            (INSTALL_UNDONE, Undo.DELETED_INSTALL, Step.REMOVE, Step.UNLOCK_AND_REMOVE),
            (INSTALL_KEPT, Undo.KEPT_INSTALL, Step.KEEP, Step.UNLOCK_AND_KEEP),
        )
        for status, state, step, given_up in (
            ("pending-install", ReleaseState.OURS_PENDING, pending, Step.UNLOCK_AND_ABANDON),
            ("uninstalling", ReleaseState.OURS_PENDING, pending, Step.UNLOCK_AND_ABANDON),
            ("deployed", ReleaseState.OURS_FINAL, final, Step.ABANDON),
            ("failed", ReleaseState.OURS_FINAL, final, Step.ABANDON),
        )
    ),
    *(
        UndoRow(INSTALL_UNDONE, task, INSTALLING, [], ReleaseState.ABSENT, Step.RECORD, Step.RECORD)
        for task in INSTALL_UNDOS
    ),
    *(
        UndoRow(REPLACED, task, row, [Revision(1, "failed")], ReleaseState.UNTOUCHED, step, given_up)
        for row in (REPLACING, operation("install", base_revision=1))
        for task, step, given_up in (
            (Undo.INSTALL, Step.LEAVE, Step.LEAVE),
            (Undo.KEPT_INSTALL, Step.LEAVE, Step.LEAVE),
            (Undo.DELETED_INSTALL, Step.REMOVE, Step.ABANDON),
        )
    ),
    *(
        UndoRow(FOREIGN, task, row, [Revision(1, status)], state, Step.LEAVE, Step.LEAVE)
        for task in INSTALL_UNDOS
        for row in (INSTALLING, REPLACING, operation("install", base_revision=1))
        for status, state in (
            ("deployed", ReleaseState.FREE),
            ("pending-install", ReleaseState.FOREIGN_PENDING),
            ("uninstalling", ReleaseState.FOREIGN_UNINSTALLING),
        )
    ),
    *(  # an update by another program inherits the label
        UndoRow(FOREIGN, task, INSTALLING, [*ours, Revision(2, status, OURS)], state, Step.LEAVE, Step.LEAVE)
        for task in INSTALL_UNDOS
        for ours in ([Revision(1, "superseded", OURS)], [Revision(1, "failed", OURS)], [])
        for status, state in (
            ("deployed", ReleaseState.FREE),
            ("failed", ReleaseState.FREE),
            ("pending-upgrade", ReleaseState.FOREIGN_PENDING),
            ("uninstalling", ReleaseState.FOREIGN_UNINSTALLING),
        )
    ),
    *(
        UndoRow(INSTALL_UNDONE, Undo.INSTALL, row, found, ReleaseState.OURS_FINAL, Step.REMOVE, Step.ABANDON)
        for row, found in (
            (INSTALLING_AGAIN, [Revision(1, "failed", OURS), Revision(2, "deployed", OURS)]),
            (INSTALLING_AGAIN, [Revision(1, "failed", OURS)]),
            (INSTALLING, [Revision(1, "failed"), Revision(2, "deployed", OURS)]),
        )
    ),
    UndoRow(UPDATE_UNDONE, Undo.UPDATE, UPGRADING, [FIRST, LEFT], ReleaseState.OURS_FINAL, Step.RESTORE),
    UndoRow(UPDATE_UNDONE, Undo.UPDATE, UPGRADING, [BROKEN, LEFT], ReleaseState.OURS_FINAL, Step.KEEP, whole=False),
    UndoRow(
        UPDATE_UNDONE, Undo.UPDATE, ROLLING_BACK,
        [BEFORE, SECOND, Revision(3, "failed", description="Rollback to 1")], ReleaseState.OURS_FINAL, Step.RESTORE,
    ),
    UndoRow(
        DEPLOYED_TOO, Undo.UPDATE, UPGRADING, [BEFORE, Revision(2, "deployed", OURS)],
        ReleaseState.OURS_FINAL, Step.RESTORE,
    ),
    UndoRow(
        NOWHERE_TO_GO, Undo.UPDATE, UPGRADING, [Revision(2, "deployed", OURS)],
        ReleaseState.OURS_FINAL, Step.KEEP, whole=False,
    ),
    *(  # an upgrade by another program inherits the label, and a rollback has no other mark
        UndoRow(
            FOREIGN, Undo.UPDATE, replace(begun(action, number=3, base=LEFT), last_writing_attempt=2),
            [FIRST, LEFT, Revision(3, "failed", OURS, text), Revision(4, "failed", OURS, text)],
            ReleaseState.FREE, Step.LEAVE,
        )
        for action, text in (("upgrade", REFUSED), ("rollback", "Rollback to 1"))
    ),
    UndoRow(  # the last attempt wrote nothing: what the one before it left counts
        UPDATE_UNDONE, Undo.UPDATE, replace(begun("upgrade", number=3, base=LEFT), last_writing_attempt=2),
        [FIRST, LEFT], ReleaseState.OURS_FINAL, Step.RESTORE,
    ),
    UndoRow(
        UPDATE_UNDONE, Undo.UPDATE, UPGRADING, [FIRST, Revision(2, "pending-upgrade", OURS)],
        ReleaseState.OURS_PENDING, Step.UNLOCK_AND_LOOK,
    ),
    UndoRow(
        OVERTAKEN, Undo.UPDATE, UPGRADING, [FIRST, Revision(2, "pending-upgrade", OURS), Revision(3, "deployed")],
        ReleaseState.OVERTAKEN, Step.UNLOCK_AND_LOOK,
    ),
    UndoRow(
        OVERTAKEN, Undo.UPDATE, ROLLING_BACK,
        [
            BEFORE, replace(SECOND, status="superseded"),
            Revision(3, "pending-rollback", description="Rollback to 1"), Revision(4, "pending-upgrade"),
        ],
        ReleaseState.OVERTAKEN, Step.UNLOCK_AND_LOOK,
    ),
    UndoRow(UPDATE_UNDONE, Undo.UPDATE, UPGRADING, [FIRST], ReleaseState.UNTOUCHED, Step.LEAVE),
    UndoRow(
        FOREIGN, Undo.UPDATE, UPGRADING, [BEFORE, SECOND, Revision(3, "uninstalling")],
        ReleaseState.FOREIGN_UNINSTALLING, Step.REFUSE,
    ),
    UndoRow(
        CARRIED_ON, Undo.UNINSTALL, replace(UNINSTALLING, undo_revision=2, base_version="3"),
        [replace(TOUCHED, status="failed", version="3"), Revision(2, "pending-rollback", description="Rollback to 1")],
        ReleaseState.UNDOING, Step.RESTORE,
    ),
    UndoRow(UPDATE_UNDONE, Undo.UPDATE, UPGRADING, [], ReleaseState.ABSENT, Step.RECORD),
    *(
        UndoRow(DISPLACED, Undo.UPDATE, UPGRADING, [BEFORE, SECOND, Revision(3, status, OURS)], state, step)
        for status, state, step in (
            ("failed", ReleaseState.DISPLACED, Step.KEEP),
            ("deployed", ReleaseState.DISPLACED, Step.KEEP),
            ("uninstalling", ReleaseState.DISPLACED, Step.KEEP),
            ("pending-upgrade", ReleaseState.DISPLACED_PENDING, Step.UNLOCK_AND_KEEP),
        )
    ),
    UndoRow(FOREIGN, Undo.UPDATE, UPGRADING, [FIRST, LEFT, Revision(3, "deployed")], ReleaseState.FREE, Step.LEAVE),
    UndoRow(
        FOREIGN, Undo.UPDATE, UPGRADING, [FIRST, Revision(2, "pending-upgrade")],
        ReleaseState.FOREIGN_PENDING, Step.REFUSE,
    ),
    UndoRow(CARRIED_ON, Undo.UPDATE, UNDONE, [FIRST, LEFT], ReleaseState.UNDOING, Step.RESTORE),
    UndoRow(
        CARRIED_ON, Undo.UPDATE, UNDONE,
        [FIRST, LEFT, Revision(3, "pending-rollback", description="Rollback to 1")],
        ReleaseState.UNDOING, Step.RESTORE,
    ),
    UndoRow(
        FOREIGN, Undo.UPDATE, UNDONE,
        [FIRST, LEFT, Revision(3, "pending-rollback", description="Rollback to 2", target=2)],
        ReleaseState.FOREIGN_PENDING, Step.REFUSE,
    ),
    UndoRow(
        FOREIGN, Undo.UPDATE, ROLLING_BACK,
        [BEFORE, replace(SECOND, status="superseded"), Revision(3, "deployed", description="Rollback to 2", target=2)],
        ReleaseState.FREE, Step.LEAVE,
    ),
    UndoRow(
        UPDATE_UNDONE, Undo.UPDATE, ROLLING_BACK,
        [BEFORE, SECOND, Revision(3, "failed", description=REFUSED, target=1)], ReleaseState.OURS_FINAL, Step.RESTORE,
    ),
    UndoRow(
        FOREIGN, Undo.UPDATE, UNDONE, [FIRST, LEFT, Revision(3, "deployed")], ReleaseState.FREE, Step.LEAVE,
    ),
    *(
        UndoRow(
            sentence, Undo.UNINSTALL, UNINSTALLING, [TOUCHED],
            ReleaseState.OURS_PENDING, step, Step.UNLOCK_AND_ABANDON, whole=whole,
        )
        for sentence, whole, step in (
            (UNINSTALL_UNDONE, True, Step.UNLOCK_AND_RESTORE),
            (COMPLETED, False, Step.UNLOCK_AND_REMOVE),
        )
    ),
    UndoRow(
        UNINSTALL_UNDONE, Undo.UNINSTALL, UNINSTALLING,
        [replace(LEFT, number=1, version="3")], ReleaseState.OURS_FINAL, Step.RESTORE, Step.UNLOCK_AND_ABANDON,
    ),
    UndoRow(
        COMPLETED, Undo.UNINSTALL, UNINSTALLING,
        [replace(LEFT, number=1, version="3")], ReleaseState.OURS_FINAL, Step.REMOVE, whole=False,
    ),
    UndoRow(
        UNINSTALL_UNDONE, Undo.UNINSTALL, UNINSTALLING, [FIRST], ReleaseState.UNTOUCHED, Step.LEAVE, Step.LEAVE,
    ),
    UndoRow(
        ENDED_BEFORE, Undo.UNINSTALL, UNINSTALLING, [], ReleaseState.ABSENT, Step.RECORD, Step.RECORD,
    ),
    UndoRow(
        RECREATED, Undo.UNINSTALL, UNINSTALLING, [replace(FIRST, remade=True)],
        ReleaseState.RECREATED, Step.RECORD, Step.RECORD,
    ),
    UndoRow(
        FOREIGN, Undo.UNINSTALL, UNINSTALLING, [FIRST, SECOND], ReleaseState.FREE, Step.LEAVE, Step.LEAVE,
    ),
    UndoRow(
        FOREIGN, Undo.UNINSTALL, UNINSTALLING, [FIRST, Revision(2, "pending-upgrade")],
        ReleaseState.FOREIGN_PENDING, Step.REFUSE, Step.REFUSE,
    ),
)  # fmt: skip


def classify_found(found: Sequence[Revision], row: OperationRow) -> ReleaseState:
    written = next((one.stored() for one in found if one.number == row.revision), None)
    return classify_cancelled(seen(*found), row, found[-1].stored() if found else None, written, target=1)


@pytest.mark.parametrize("case", UNDO_ROWS, ids=str)
def test_what_is_promised_of_a_cancel_is_decided(case: UndoRow):
    state = classify_found(case.found, case.operation)
    assert state is case.state
    assert next_step(case.task, state, can_restore=case.whole, held=True) is case.step
    if case.given_up is not None:
        assert next_step(case.task, state, giving_up=True, held=True) is case.given_up


def test_an_uninstall_that_goes_on_still_knows_that_it_has_touched_the_release():
    """It leaves the revision locked if it is to leave the history, and the next attempt begins on that."""
    again = replace(UNINSTALLING, last_writing_attempt=2, base_version=version_before(UNINSTALLING, TOUCHED.labels()))
    assert classify_found([TOUCHED], again) is ReleaseState.OURS_PENDING
    for newest in (FIRST, replace(TOUCHED, status="failed"), replace(TOUCHED, remade=True)):
        assert version_before(UNINSTALLING, newest.labels()) == newest.version
    assert version_before(operation("uninstall"), TOUCHED.labels()) == TOUCHED.version


def test_what_changes_while_it_is_looked_at_is_looked_at_again():
    for newest in (None, replace(FIRST, remade=True).stored()):
        state = classify_cancelled(seen(FIRST), UNINSTALLING, newest)
        assert next_step(Undo.UNINSTALL, state, held=True) is Step.RETRY


def test_each_step_that_writes_is_in_a_row():
    told = {(case.task, case.state) for case in UNDO_ROWS}
    writing = {where for where, cell in CARRY_OUT.items() if isinstance(cell, Step) and cell.writes}
    assert {(task, state) for task, state in writing if isinstance(task, Undo)} <= told


@pytest.mark.parametrize("sentence", sorted({case.sentence for case in UNDO_ROWS}))
def test_each_row_is_about_a_sentence_of_the_documentation(sentence: str):
    assert sentence in PROMISES


@given(ROWS, HISTORIES, st.none() | st.integers(1, 5))
def test_a_cancel_is_decided_too_whatever_is_found_and_writes_nothing_without_the_lease(
    row: OperationRow, found: list[Revision], undo: int | None
):
    row = replace(row, undo_revision=undo if row.action != "install" else None)
    state = classify_found(found, row)
    # the last end of an update, and of an undo that has begun, is not decided here
    ends = (False, True) if row.action == "install" or (row.action == "uninstall" and not undo) else (False,)
    for task, giving_up, whole in itertools.product(UNDO_OF[row.action], ends, (False, True)):
        decide = partial(next_step, task, state, giving_up=giving_up, can_restore=whole)
        decided = decide(held=True)
        assert decide(held=False) is (Step.STOP if decided.writes else decided)
        assert not giving_up or decided in GIVEN_UP
        if found and state is ReleaseState.FREE:  # another program's
            assert not decided.writes

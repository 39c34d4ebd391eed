"""What the documentation promises about found revisions, as rows: who wrote what, which action, which attempt, what.

The crash suite (``tests/crash``) proves the same on a cluster; here every state and every step is looked at.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.errors import PilothouseError
from pilothouse.kubernetes.helm_secrets import PENDING
from pilothouse.states import Action
from pilothouse.store.operations import OperationRow
from pilothouse.worker.state import (
    SUCCEEDED,
    CheckedState,
    EndedState,
    ReleaseState,
    classify,
    classify_ended,
    classify_failed,
    classify_repaired,
    classify_tested,
    classify_uninstalled,
    classify_written,
    is_resumed,
    is_to_be_undone,
    may_have_left_a_lock,
)
from pilothouse.worker.steps import (
    AFTER_CALL,
    AFTER_CHECK,
    CARRY_OUT,
    CHECK,
    CLEAN_UP,
    GIVE_UP,
    REPAIR,
    STOP_CHECK,
    EngineStatus,
    ImpossibleState,
    Step,
    Undo,
    next_step,
    step_after_call,
    step_of,
)
from tests.support.revisions import (
    BEFORE,
    CUT_OFF,
    FIRST,
    HISTORIES,
    NONE,
    OURS,
    OVERTAKEN,
    PROMISES,
    RECREATED,
    REFUSED,
    REVISIONS,
    ROWS,
    SECOND,
    Revision,
    begun,
    operation,
    seen,
)

ENGINE: tuple[EngineStatus, ...] = ("done", "refused", "stopped", "unreachable", "unavailable", "taken", "crashed")


@dataclass(frozen=True)
class Row:
    """A sentence of ``PAGES``, a situation that it is about, and what is done in it.

    ``written``: which of the revisions is found where the operation committed that it would write. ``given_up``: what
    is done when there is no further attempt.
    """

    sentence: str
    operation: OperationRow
    found: Sequence[Revision]
    state: ReleaseState
    step: Step
    given_up: Step
    written: int | None = None
    keeps_history: bool = False

    def __str__(self) -> str:
        return f"{self.operation.action}: {self.state}"


#: No sentence tells of it: what is there is nobody's concern, and Helm says the rest.
UNTOLD = ""
HISTORY_KEPT = "With `keep_history`, a revision that is `uninstalled` is the end"
OWN = "A revision counts as Pilothouse's own only with exactly that number, in a status that the action writes"
LABELLED = "for installs and upgrades, with this operation's id in the label `pilothouse.dev/operation`"
ROLLED_BACK = "there the number, what Helm says it went back to, and the unchanged revision before it decide."
NEXT_NUMBER = "then the first later revision with this operation's label is Pilothouse's own."
RECORDED = "it reads the release from the cluster, records what is final, unlocks what this operation left pending"
AGAIN_IN_PLACE = "unlocked and installed again in its place"
AGAIN_FURTHER = "unlocked and done again as a further revision"
AGAIN_GONE = "unlocked and uninstalled again"
GONE_IS_SUCCESS = "a release that is gone is a success"
RETRIED = "If a cluster is unreachable, the operation is retried at growing intervals until its deadline."
REFUSED_LOCK = "Pilothouse never changes it by itself."
FOREIGN_UNINSTALL = "A release that a `helm` left `uninstalling` can simply be deleted."
NOT_DEPLOYED = ("failed", "superseded", "uninstalled", "uninstalling", "pending-upgrade", "unknown")
TOUCHED = replace(FIRST, status="uninstalling", version="2")
#: What Helm says of each action that lost the cluster.
CUT_OFF_BY = {
    "install": CUT_OFF.replace("Upgrade", "Install"),
    "upgrade": CUT_OFF,
    "rollback": CUT_OFF.replace("Upgrade", "Rollback"),
}

PROMISED = (
    # nothing is there, or nothing that matters
    Row(
        UNTOLD, operation("install"), [], ReleaseState.ABSENT, Step.ACT, Step.ABANDON,
    ),
    Row(
        UNTOLD, operation("upgrade"), [FIRST], ReleaseState.FREE, Step.ACT, Step.ABANDON,
    ),
    Row(
        UNTOLD, operation("rollback"), [BEFORE, Revision(2, "deployed")],
        ReleaseState.FREE, Step.ACT, Step.ABANDON,
    ),
    Row(
        UNTOLD, operation("uninstall"), [FIRST], ReleaseState.FREE, Step.ACT, Step.ABANDON,
    ),
    Row(
        UNTOLD, operation("upgrade"), [], ReleaseState.ABSENT, Step.ABANDON, Step.ABANDON,
    ),
    Row(
        UNTOLD, operation("rollback"), [], ReleaseState.ABSENT, Step.ABANDON, Step.ABANDON,
    ),
    Row(
        GONE_IS_SUCCESS, operation("uninstall"), [], ReleaseState.ABSENT, Step.RECORD, Step.RECORD,
    ),
    # what an earlier attempt finished
    Row(
        RECORDED, begun("install", number=1, base=None), [Revision(1, "deployed", OURS)],
        ReleaseState.OURS_FINAL, Step.COMPLETE, Step.RECORD, written=1,
    ),
    Row(
        RECORDED, begun("upgrade", number=2, base=FIRST), [BEFORE, Revision(2, "deployed", OURS)],
        ReleaseState.OURS_FINAL, Step.COMPLETE, Step.RECORD, written=2,
    ),
    Row(
        RECORDED, begun("upgrade", number=2, base=FIRST), [FIRST, Revision(2, "failed", OURS, REFUSED)],
        ReleaseState.OURS_FINAL, Step.COMPLETE, Step.RECORD, written=2,
    ),
    Row(
        RECORDED, begun("upgrade", number=2, base=FIRST),
        [BEFORE, Revision(2, "superseded", OURS), Revision(3, "deployed", OURS)],
        ReleaseState.OURS_FINAL, Step.COMPLETE, Step.RECORD, written=2,
    ),
    Row(
        RECORDED, begun("rollback", number=2, base=FIRST), [BEFORE, replace(SECOND, description="Rollback to 1")],
        ReleaseState.OURS_FINAL, Step.COMPLETE, Step.RECORD, written=2,
    ),
    # what its dead writer left locked
    Row(
        AGAIN_IN_PLACE, begun("install", number=1, base=None), [Revision(1, "pending-install", OURS)],
        ReleaseState.OURS_PENDING, Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ABANDON, written=1,
    ),
    Row(
        AGAIN_FURTHER, begun("upgrade", number=2, base=FIRST), [FIRST, Revision(2, "pending-upgrade", OURS)],
        ReleaseState.OURS_PENDING, Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ABANDON, written=2,
    ),
    Row(
        AGAIN_FURTHER, begun("rollback", number=2, base=FIRST),
        [FIRST, Revision(2, "pending-rollback", description="Rollback to 1")],
        ReleaseState.OURS_PENDING, Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ABANDON, written=2,
    ),
    Row(
        AGAIN_GONE, begun("uninstall", number=1, base=FIRST), [replace(FIRST, status="uninstalling", version="2")],
        ReleaseState.OURS_PENDING, Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ABANDON,
    ),
    Row(
        AGAIN_FURTHER, begun("upgrade", number=2, base=FIRST), [FIRST, Revision(2, "failed", OURS, unlocked=True)],
        ReleaseState.FREE, Step.ACT, Step.ABANDON, written=2,
    ),
    # what nobody has judged (decision 7: a cluster that breaks off in the middle)
    *(
        Row(
            RETRIED, begun(action, number=2, base=FIRST), [FIRST, Revision(2, "failed", OURS, text)],
            ReleaseState.CUT_OFF, Step.UNLOCK_AND_ACT, Step.RECORD, written=2,
        )
        for action, text in CUT_OFF_BY.items()
    ),
    # whose revision it is
    Row(
        OWN, begun("upgrade", number=2, base=FIRST), [BEFORE, Revision(2, "uninstalling", OURS)],
        ReleaseState.FOREIGN_UNINSTALLING, Step.REFUSE, Step.ABANDON, written=2,
    ),
    Row(
        OWN, operation("upgrade"), [BEFORE, Revision(2, "deployed", OURS)],
        ReleaseState.FREE, Step.ACT, Step.ABANDON,
    ),
    Row(
        LABELLED, begun("upgrade", number=2, base=FIRST), [FIRST, Revision(2, "pending-upgrade", "operation-2")],
        ReleaseState.FOREIGN_PENDING, Step.REFUSE, Step.ABANDON, written=2,
    ),
    Row(
        LABELLED, begun("install", number=1, base=None), [Revision(1, "deployed")],
        ReleaseState.FREE, Step.ACT, Step.ABANDON, written=1,
    ),
    Row(
        ROLLED_BACK, begun("rollback", number=2, base=FIRST), [BEFORE, Revision(2, "deployed", OURS)],
        ReleaseState.FREE, Step.ACT, Step.ABANDON, written=2,
    ),
    *(  # another program went back to another revision under the same number
        Row(
            ROLLED_BACK, begun("rollback", number=2, base=FIRST),
            [BEFORE, Revision(2, status, description="Rollback to 3", target=3)], state, step, Step.ABANDON, written=2,
        )
        for status, state, step in (
            ("deployed", ReleaseState.FREE, Step.ACT),
            ("failed", ReleaseState.FREE, Step.ACT),
            ("pending-rollback", ReleaseState.FOREIGN_PENDING, Step.REFUSE),
        )
    ),
    Row(  # an older Helm has superseded it, and kept nothing but the words
        ROLLED_BACK, begun("rollback", number=2, base=FIRST),
        [BEFORE, Revision(2, "superseded", description="Rollback to 1", target=NONE), Revision(3, "deployed")],
        ReleaseState.OURS_FINAL, Step.COMPLETE, Step.RECORD, written=2,
    ),
    Row(  # and this is its own
        ROLLED_BACK, begun("rollback", number=2, base=FIRST),
        [BEFORE, Revision(2, "deployed", description="Rollback to 10", target=NONE)],
        ReleaseState.FREE, Step.ACT, Step.ABANDON, written=2,
    ),
    Row(  # a wait that failed
        ROLLED_BACK, begun("rollback", number=2, base=FIRST),
        [BEFORE, Revision(2, "failed", description=REFUSED, target=1)],
        ReleaseState.OURS_FINAL, Step.COMPLETE, Step.RECORD, written=2,
    ),
    Row(
        ROLLED_BACK, begun("rollback", number=2, base=FIRST),
        [replace(FIRST, status="failed", version="9"), Revision(2, "pending-rollback", description="Rollback to 1")],
        ReleaseState.FOREIGN_PENDING, Step.REFUSE, Step.ABANDON, written=2,
    ),
    Row(
        ROLLED_BACK, begun("rollback", number=2, base=FIRST),
        [replace(BEFORE, remade=True), Revision(2, "deployed", description="Rollback to 1")],
        ReleaseState.FREE, Step.ACT, Step.ABANDON, written=2,
    ),
    Row(
        NEXT_NUMBER, begun("upgrade", number=2, base=FIRST),
        [BEFORE, Revision(2, "deployed"), Revision(3, "pending-upgrade", OURS)],
        ReleaseState.OURS_PENDING, Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ABANDON, written=3,
    ),
    *(
        Row(
            OVERTAKEN, begun(action, number=2, base=FIRST),
            [FIRST, Revision(2, f"pending-{action}", OURS, text), Revision(3, "deployed")],
            ReleaseState.OVERTAKEN, Step.UNLOCK_AND_ABANDON, Step.UNLOCK_AND_ABANDON, written=2,
        )
        for action, text in CUT_OFF_BY.items()
    ),
    *(
        Row(
            OVERTAKEN, begun(action, number=2, base=FIRST),
            [FIRST, Revision(2, "failed", OURS, text), Revision(3, "deployed")],
            ReleaseState.CUT_OFF_OVERTAKEN, Step.ABANDON, Step.RECORD, written=2,
        )
        for action, text in CUT_OFF_BY.items()
    ),
    Row(
        RECREATED, begun("uninstall", number=1, base=FIRST), [replace(FIRST, remade=True)],
        ReleaseState.RECREATED, Step.RECORD, Step.ABANDON,
    ),
    Row(
        HISTORY_KEPT, begun("uninstall", number=1, base=FIRST), [replace(FIRST, status="uninstalled", version="9")],
        ReleaseState.KEPT, Step.RECORD, Step.RECORD, keeps_history=True,
    ),
    Row(
        UNTOLD, begun("uninstall", number=1, base=FIRST), [replace(FIRST, status="uninstalled", version="9")],
        ReleaseState.FREE, Step.ACT, Step.ABANDON,
    ),
    # another program's locks (decision 7: an uninstall done twice is an uninstall)
    *(
        Row(
            REFUSED_LOCK, operation(action), [FIRST, Revision(2, status)],
            ReleaseState.FOREIGN_PENDING, Step.REFUSE, Step.ABANDON,
        )
        for action, status in itertools.product(("install", "upgrade", "rollback", "uninstall"), sorted(PENDING))
    ),
    *(
        Row(
            FOREIGN_UNINSTALL, operation(action), [Revision(1, "uninstalling")],
            ReleaseState.FOREIGN_UNINSTALLING, Step.ACT if action == "uninstall" else Step.REFUSE, Step.ABANDON,
        )
        for action in ("install", "upgrade", "rollback", "uninstall")
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", PROMISED, ids=str)
def test_what_is_promised_is_decided(case: Row):
    written = next((one.stored() for one in case.found if one.number == case.written), None)
    state = classify(seen(*case.found), case.operation, written, target=1, keeps_history=case.keeps_history)
    action = Action(case.operation.action)
    assert state is case.state
    assert next_step(action, state, held=True) is case.step
    assert next_step(action, state, giving_up=True, held=True) is case.given_up


@pytest.mark.parametrize("sentence", sorted({case.sentence for case in PROMISED} - {UNTOLD}))
def test_each_row_is_about_a_sentence_of_the_documentation(sentence: str):
    assert sentence in PROMISES


@pytest.mark.parametrize(
    ("status", "written", "step"),
    [
        # Helm's storage tells how it went, whatever the engine said
        *((status, Revision(2, "deployed", OURS), Step.COMPLETE) for status in ENGINE),
        *((status, Revision(2, "failed", OURS, REFUSED), Step.COMPLETE) for status in ENGINE),
        # a cluster that breaks off is no answer; after Helm stored that, it counts
        ("unreachable", Revision(2, "failed", OURS, CUT_OFF), Step.CRASH),
        ("unreachable", Revision(2, "pending-upgrade", OURS), Step.RETRY),
        ("unreachable", None, Step.RETRY),
        ("refused", Revision(2, "failed", OURS, CUT_OFF), Step.COMPLETE),
        # success without a final status in storage counts as a crash
        ("done", Revision(2, "pending-upgrade", OURS), Step.CRASH),
        ("done", None, Step.ABANDON),
        # a dead engine child counts as a crash; no engine does not
        ("crashed", Revision(2, "pending-upgrade", OURS), Step.CRASH),
        ("crashed", None, Step.CRASH),
        ("unavailable", None, Step.RETRY),
        # the next attempt sees who made it: a child that had died in an earlier attempt, or another program
        *(
            ("taken", written, Step.RETRY)
            for written in (None, Revision(2, "pending-upgrade", OURS), Revision(2, "deployed"))
        ),
        # Helm's own answers, and the deadline, are final, and leave no lock
        *((status, None, Step.ABANDON) for status in ("refused", "stopped")),
        *((status, Revision(2, "pending-upgrade", OURS), Step.UNLOCK_AND_ABANDON) for status in ("refused", "stopped")),
        # another program's revision of that number says nothing about ours
        ("refused", Revision(2, "deployed"), Step.ABANDON),
        ("crashed", Revision(2, "deployed"), Step.CRASH),
    ],
)
def test_after_a_call_of_the_engine_the_revision_decides(status: EngineStatus, written: Revision | None, step: Step):
    state = classify_written(operation("upgrade"), written.stored() if written else None)
    assert step_after_call(status, state, held=True) is step


@pytest.mark.parametrize(
    ("status", "left", "step"),
    [
        *((status, None, Step.RECORD) for status in ENGINE),
        *((status, replace(FIRST, remade=True), Step.RECORD) for status in ENGINE),
        *((status, left, Step.CRASH) for status in ("done", "crashed") for left in (FIRST, TOUCHED)),
        *(
            (status, left, Step.RETRY)
            for status in ("unreachable", "unavailable", "taken")
            for left in (FIRST, TOUCHED)
        ),
        *((status, FIRST, Step.ABANDON) for status in ("refused", "stopped")),
        *((status, TOUCHED, Step.UNLOCK_AND_ABANDON) for status in ("refused", "stopped")),
    ],
)
def test_after_an_uninstall_what_is_left_decides(status: EngineStatus, left: Revision | None, step: Step):
    stored = left.stored() if left else None
    state = classify_uninstalled(FIRST.labels(), stored, absent=left is None)
    assert step_after_call(status, state, held=True) is step


@pytest.mark.parametrize("status", ENGINE)
def test_an_uninstall_that_keeps_the_history_ends_with_an_uninstalled_revision(status: EngineStatus):
    stored = replace(FIRST, status="uninstalled", version="9").stored()
    state = classify_uninstalled(FIRST.labels(), stored, absent=False, keeps_history=True)
    assert step_after_call(status, state, held=True) is Step.RECORD


@given(ROWS, HISTORIES, st.none() | REVISIONS)
def test_whatever_is_found_there_is_a_decision_and_none_writes_without_the_lease(
    row: OperationRow, found: list[Revision], written: Revision | None
):
    state = classify(seen(*found), row, written.stored() if written else None)
    for giving_up in (False, True):
        decide = partial(next_step, Action(row.action), state, giving_up=giving_up)
        decided = decide(held=True)
        assert decide(held=False) is (Step.STOP if decided.writes else decided)
        assert not giving_up or decided not in {Step.ACT, Step.UNLOCK_AND_ACT, Step.COMPLETE, Step.REFUSE}


def test_no_cell_of_a_table_is_left_to_a_default():
    cells = set(itertools.product([*set(Action) - {Action.TEST}, *Undo], ReleaseState))
    assert set(CARRY_OUT) == set(GIVE_UP) == cells
    assert set(AFTER_CALL) == set(itertools.product(ENGINE, ReleaseState))
    assert set(REPAIR) == set(EndedState)


def test_no_step_writes_without_the_lease():
    decisions = [
        *(partial(next_step, *cell, giving_up=False) for cell, step in CARRY_OUT.items() if isinstance(step, Step)),
        *(partial(next_step, *cell, giving_up=True) for cell, step in GIVE_UP.items() if isinstance(step, Step)),
        *(partial(step_after_call, *cell) for cell, step in AFTER_CALL.items() if isinstance(step, Step)),
        *(partial(step_of, REPAIR, state) for state in REPAIR),
    ]
    for decide in decisions:
        decided = decide(held=True)
        assert decide(held=False) is (Step.STOP if decided.writes else decided)


def test_a_state_in_which_the_task_cannot_find_the_release_breaks_the_attempt():
    """It is no error of the domain, which would fail the operation: the runner counts it as a crash."""
    assert not issubclass(ImpossibleState, PilothouseError)
    for held in (True, False):
        with pytest.raises(ImpossibleState, match="only a cancelled operation"):
            next_step(Action.INSTALL, ReleaseState.UNDOING, held=held)
        with pytest.raises(ImpossibleState, match="writes no revision"):
            next_step(Action.UNINSTALL, ReleaseState.CUT_OFF, giving_up=True, held=held)
        with pytest.raises(ImpossibleState, match="before a call"):
            step_after_call("done", ReleaseState.FOREIGN_PENDING, held=held)


@pytest.mark.parametrize(
    ("before", "readable", "now", "removed", "steps"),
    [
        (None, True, None, True, (Step.REMOVE, Step.REMOVE)),
        (FIRST, True, FIRST, False, (Step.REAPPLY, Step.REAPPLY)),
        (FIRST, True, FIRST, True, (Step.REAPPLY, Step.REAPPLY)),
        (FIRST, False, FIRST, False, (Step.LEAVE, Step.REAPPLY)),
        *((replace(FIRST, status=status), True, None, False, (Step.LEAVE, Step.LEAVE)) for status in NOT_DEPLOYED),
        # another program's revision came meanwhile
        (FIRST, True, SECOND, False, (Step.REAPPLY, Step.LEAVE)),
        (FIRST, True, replace(FIRST, version="2"), False, (Step.REAPPLY, Step.LEAVE)),
        (FIRST, True, None, True, (Step.REAPPLY, Step.RETRY)),
        (None, True, FIRST, False, (Step.REMOVE, Step.LEAVE)),
        (None, True, FIRST, True, (Step.REMOVE, Step.RETRY)),
    ],
)
def test_a_repair_touches_only_what_is_deployed_and_unchanged(
    *, before: Revision | None, readable: bool, now: Revision | None, removed: bool, steps: tuple[Step, Step]
):
    found, later = (one.labels() if one else None for one in (before, now))
    repaired = classify_repaired(found, later, removed=removed)
    ended = classify_ended(found, readable=readable)
    assert tuple(step_of(REPAIR, state, held=True) for state in (ended, repaired)) == steps


@pytest.mark.parametrize(
    ("found", "failed", "step"),
    [
        ([FIRST, Revision(2, "failed", OURS, REFUSED)], 2, Step.CLEAN_UP),
        ([FIRST, Revision(2, "failed", OURS, CUT_OFF)], 2, Step.CLEAN_UP),
        ([FIRST, Revision(2, "failed")], 2, Step.LEAVE),  # another program's
        (
            [FIRST, Revision(2, "failed", OURS, REFUSED), Revision(3, "deployed")],
            2,
            Step.LEAVE,
        ),  # overtaken
        ([Revision(2, "failed", OURS, REFUSED)], 2, Step.LEAVE),  # all of it is new: nothing was deployed before
        ([FIRST, Revision(2, "pending-upgrade", OURS)], 2, Step.LEAVE),  # nobody has judged it
        ([FIRST], 2, Step.LEAVE),
    ],
)
def test_only_what_a_failed_upgrade_of_ours_created_is_cleaned_up(found: Sequence[Revision], failed: int, step: Step):
    stored = next((one.stored() for one in found if one.number == failed), None)
    deployed = any(one.status in SUCCEEDED for one in found)
    state = classify_failed(seen(*found), operation("upgrade"), stored, deployed=deployed)
    assert step_of(CLEAN_UP, state, held=True) is step
    assert step_of(CLEAN_UP, state, held=False) is (Step.STOP if step.writes else step)


@pytest.mark.parametrize(
    ("rolls_back", "failed", "wrote", "cancelling", "undone"),
    [
        (True, True, True, False, True),
        (False, True, True, False, False),
        (True, False, True, False, False),
        (True, True, False, False, False),  # a failure that left no revision has changed nothing
        (True, True, True, True, False),  # what is being undone already is not undone once more
    ],
)
def test_a_failure_is_undone_only_if_its_order_says_so(
    *, rolls_back: bool, failed: bool, wrote: bool, cancelling: bool, undone: bool
):
    row = replace(operation("upgrade"), cancelling_at=datetime.now(UTC) if cancelling else None)
    assert is_to_be_undone(row, rolls_back=rolls_back, failed=failed, wrote_revision=wrote) is undone


def test_each_step_that_writes_is_in_a_row():
    told = {(Action(case.operation.action), case.state) for case in PROMISED}
    writing = {
        where
        for table in (CARRY_OUT, GIVE_UP)
        for where, cell in table.items()
        if isinstance(cell, Step) and cell.writes
    }
    assert {(task, state) for task, state in writing if isinstance(task, Action)} <= told


@given(ROWS, HISTORIES, st.none() | REVISIONS)
def test_what_is_another_programs_is_neither_unlocked_nor_acted_upon_while_it_is_locked(
    row: OperationRow, found: list[Revision], written: Revision | None
):
    """Unlocked is only what carries our label, or what a rollback or an uninstall of ours had committed."""
    state = classify(seen(*found), row, written.stored() if written else None)
    step = next_step(Action(row.action), state, held=True)
    unlocks = step in {Step.UNLOCK_AND_ACT, Step.UNLOCK_AND_ABANDON}
    if row.last_writing_attempt is None or (
        row.action in {"install", "upgrade"} and (not written or written.by != OURS)
    ):
        assert not unlocks
    if step is Step.ACT and found:
        assert found[-1].status not in PENDING


@pytest.mark.parametrize(
    ("found", "state", "step", "stopped"),
    [
        ([FIRST], CheckedState.AS_WRITTEN, Step.ACT, Step.CLEAN_UP),
        ([], CheckedState.GONE, Step.ABANDON, Step.LEAVE),
        ([BEFORE, SECOND], CheckedState.MOVED, Step.ABANDON, Step.CLEAN_UP),
        ([replace(FIRST, remade=True)], CheckedState.MOVED, Step.ABANDON, Step.CLEAN_UP),
        ([replace(FIRST, status="uninstalling")], CheckedState.LOCKED, Step.REFUSE, Step.CLEAN_UP),
        ([FIRST, Revision(2, "pending-upgrade")], CheckedState.LOCKED, Step.REFUSE, Step.CLEAN_UP),
    ],
)
def test_only_the_revision_that_was_meant_is_tested_and_what_was_started_is_removed_anyway(
    found: Sequence[Revision], state: CheckedState, step: Step, stopped: Step
):
    assert classify_tested(seen(*found), 1, FIRST.uid) is state
    assert step_of(CHECK, state, held=True) is step
    assert step_of(STOP_CHECK, state, held=True) is stopped
    assert step_of(CHECK, state, held=False) is (Step.STOP if step.writes else step)
    assert step_of(STOP_CHECK, state, held=False) is (Step.STOP if stopped.writes else stopped)


def test_no_end_of_tests_is_left_to_a_default():
    assert set(CHECK) == set(STOP_CHECK) == set(CheckedState)
    assert set(AFTER_CHECK) == set(ENGINE)
    assert {status for status, step in AFTER_CHECK.items() if step is Step.RECORD} == {"done"}


def test_failed_tests_have_left_no_lock():
    for action, locked in (("upgrade", True), ("test", False)):
        row = replace(operation(action), state="failed", wrote_revision=False)
        assert may_have_left_a_lock(row) is locked


UNLOCKED_BY_US = f"The operation was interrupted; unlocked by Pilothouse (operation {OURS}, attempt 2)"
LEFT_BY_US = Revision(2, "failed", OURS, UNLOCKED_BY_US, unlocked=True)


@pytest.mark.parametrize(
    ("row", "base", "newest", "resumed"),
    [
        *(
            (begun(action, number=2, base=FIRST), FIRST, newest, True)
            for action in ("upgrade", "rollback")
            for newest in (
                Revision(2, "failed", OURS, UNLOCKED_BY_US, unlocked=True),
                Revision(2, "failed", OURS, CUT_OFF_BY[action]),
            )
        ),
        # the attempt died before it wrote anything, and another program took the number
        (begun("upgrade", number=2, base=FIRST), FIRST, Revision(2, "failed", description=REFUSED), False),
        (begun("upgrade", number=2, base=FIRST), BEFORE, Revision(2, "deployed"), False),
        (begun("rollback", number=2, base=FIRST), BEFORE, Revision(2, "deployed"), False),
        (begun("install", number=1, base=None), None, Revision(1, "failed", description=REFUSED), False),
        (begun("upgrade", number=2, base=FIRST), BEFORE, Revision(3, "failed", OURS), False),
        (operation("upgrade", revision=2), BEFORE, Revision(2, "failed", OURS), False),
        # the second attempt died before it wrote anything over what the first had left
        *(
            (replace(begun("upgrade", number=3, base=LEFT_BY_US), last_writing_attempt=2), FIRST, newest, resumed)
            for newest, resumed in (
                (LEFT_BY_US, True),
                (replace(LEFT_BY_US, version="2"), False),
                (replace(LEFT_BY_US, remade=True), False),
            )
        ),
        # an uninstall acts on the revision that it began on
        (begun("uninstall", number=1, base=FIRST), None, TOUCHED, True),
        (begun("uninstall", number=1, base=FIRST), None,
         replace(FIRST, status="failed", version="3", description=UNLOCKED_BY_US, unlocked=True), True),
        (begun("uninstall", number=1, base=FIRST), None, replace(FIRST, version="2"), False),
        (begun("uninstall", number=1, base=FIRST), None, replace(TOUCHED, remade=True), False),
    ],
)  # fmt: skip
def test_a_plan_is_applied_again_only_over_what_the_operation_itself_began(
    row: OperationRow, base: Revision | None, newest: Revision, *, resumed: bool
):
    found = seen(newest) if base is None else seen(base, newest)
    assert is_resumed(row, newest.stored(), found, 1) is resumed

"""What the console says that a cancel does."""

import pytest

from pilothouse.console.operations import tell_consequence
from pilothouse.states import Action, OperationState


@pytest.mark.parametrize(
    ("action", "state", "has_written", "target", "told"),
    [
        (Action.UPGRADE, OperationState.QUEUED, False, None, "Nothing of it was begun"),
        (Action.UPGRADE, OperationState.RUNNING, False, None, "goes back to the revision that was deployed before"),
        (Action.UPGRADE, OperationState.RUNNING, True, 3, "goes back to revision 3, the last that was deployed"),
        (Action.ROLLBACK, OperationState.RUNNING, True, None, "the release stays failed"),
        (Action.INSTALL, OperationState.RUNNING, True, None, "is uninstalled, or kept as a failed release"),
    ],
)
def test_a_cancel_promises_what_will_happen(
    action: Action, state: OperationState, *, has_written: bool, target: int | None, told: str
):
    assert told in tell_consequence(action, state=state, has_written=has_written, target=target)

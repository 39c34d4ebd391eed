"""``pilothouse wait``: what it ends with, and after which time."""

import signal
import threading
from typing import Any

import pytest

from pilothouse.cli.commands.get import in_helms_order
from pilothouse.cli.commands.wait import failure_to_become
from pilothouse.cli.evidence import evidence_lines
from pilothouse.cli.exits import UsageError
from pilothouse.cli.following import Choice, TimedOut, choice_of, time_limit
from pilothouse.cli.writes import failure_of
from pilothouse.states import OperationState, ReleaseStatus


def operation(action: str, state: OperationState) -> dict[str, Any]:
    return {"action": action, "state": state, "release": "cc", "text": f"it has {state}", "last_error": ""}


def release(status: ReleaseStatus) -> dict[str, Any]:
    return {"status": status, "description": "Upgrade complete"}


CANCELLED = operation("install", OperationState.CANCELLED)
REMOVED = operation("uninstall", OperationState.SUCCEEDED)


@pytest.mark.parametrize(
    ("wanted", "found", "ended", "told"),
    [
        (ReleaseStatus.DEPLOYED, None, CANCELLED, "install of cc cancelled: it has cancelled"),
        (ReleaseStatus.DEPLOYED, release(ReleaseStatus.DEPLOYED), operation("upgrade", OperationState.CANCELLED),
         "upgrade of cc cancelled: it has cancelled"),
        (ReleaseStatus.DEPLOYED, release(ReleaseStatus.FAILED), operation("upgrade", OperationState.FAILED),
         "upgrade of cc failed: it has failed"),
        (ReleaseStatus.DEPLOYED, None, REMOVED, "cc is uninstalled, not deployed: it is gone"),
        (ReleaseStatus.DEPLOYED, release(ReleaseStatus.FAILED), None, "cc is failed, not deployed: Upgrade complete"),
        (ReleaseStatus.UNINSTALLED, None, CANCELLED, "install of cc cancelled: it has cancelled"),
    ],
)  # fmt: skip
def test_why_a_release_is_not_as_it_was_waited_for(
    wanted: ReleaseStatus, found: dict[str, Any] | None, ended: dict[str, Any] | None, told: str
):
    assert str(failure_to_become(wanted, "cc", found, ended)) == told


@pytest.mark.parametrize(
    ("wanted", "found", "ended"),
    [
        (ReleaseStatus.DEPLOYED, release(ReleaseStatus.DEPLOYED), operation("upgrade", OperationState.SUCCEEDED)),
        (ReleaseStatus.FAILED, release(ReleaseStatus.FAILED), operation("upgrade", OperationState.FAILED)),
        (ReleaseStatus.UNINSTALLED, None, REMOVED),
        (ReleaseStatus.UNINSTALLED, None, None),
    ],
)
def test_a_release_is_as_it_was_waited_for(
    wanted: ReleaseStatus, found: dict[str, Any] | None, ended: dict[str, Any] | None
):
    assert failure_to_become(wanted, "cc", found, ended) is None


def test_what_takes_longer_than_the_limit_is_ended_and_the_clock_is_given_back():
    before = signal.getsignal(signal.SIGALRM)

    refused = pytest.raises(TimedOut, match="what is done to web has not ended after 1s; it goes on at the server")
    with refused, time_limit("1s", "what is done to web"):
        threading.Event().wait(60)

    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_ends_in_time_is_left_alone():
    with time_limit("1h", "it"):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_limit_that_is_no_duration_is_refused_before_anything_is_asked():
    with pytest.raises(UsageError, match="--timeout: '5' is not a duration; did you mean 5s"), time_limit("5", "it"):
        pytest.fail("it began")


@pytest.mark.parametrize(
    ("state", "text", "told"),
    [
        ("cancelled", "cancelled; rolled back to revision 24", "upgrade of cc cancelled: rolled back to revision 24"),
        ("cancelled", "cancelled and uninstalled", "upgrade of cc cancelled and uninstalled"),
        ("cancelled", "cancelled before anything was done", "upgrade of cc cancelled before anything was done"),
        ("cancelled", "cancelled", "upgrade of cc cancelled"),
        ("failed", "the pods are not ready", "upgrade of cc failed: the pods are not ready"),
        ("failed", "failed to create it", "upgrade of cc failed to create it"),
        ("failed", "failed: x", "upgrade of cc failed: x"),
    ],
)
def test_how_an_operation_ended_is_said_once(state: OperationState, text: str, told: str):
    assert str(failure_of({**operation("upgrade", state), "text": text})) == told


@pytest.mark.parametrize(
    ("answer", "choice"),
    [("", Choice.DETACH), ("d", Choice.DETACH), ("cancel", Choice.CANCEL), ("c", Choice.CANCEL), ("g", Choice.GO_ON),
     ("go", Choice.GO_ON), ("?", None), ("clear", None), ("q", None)],
)  # fmt: skip
def test_an_answer_that_is_not_understood_chooses_nothing(answer: str, choice: Choice | None):
    assert choice_of(answer) is choice


def test_times_of_evidence_are_told_as_those_of_progress():
    event = {"at": "2026-11-30T16:12:48.892880Z", "type": "Normal", "object": "Pod/x", "reason": "Pulled", "text": "t"}
    parts: dict[str, Any] = dict.fromkeys(("blocking", "conflicts", "objects", "pods", "missing"), ())
    lines = list(evidence_lines({**parts, "attempt": 1, "error": "e", "events": [event]}))
    assert lines[1:] == ["  16:12:48  Normal  Pod/x  Pulled: t"]


def test_values_are_printed_in_helms_order():
    found = in_helms_order({"b": [{"z": 1, "y": 2}], "a": {"d": None, "c": 3}})
    assert list(found) == ["a", "b"]
    assert (list(found["a"]), list(found["b"][0])) == (["c", "d"], ["y", "z"])

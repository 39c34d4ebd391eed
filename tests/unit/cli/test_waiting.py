"""``pilothouse wait``: what it ends with, and after which time."""

import signal
import threading
from typing import Any

import pytest

from pilothouse.cli.commands.wait import failure_to_become
from pilothouse.cli.exits import UsageError
from pilothouse.cli.following import TimedOut, time_limit
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

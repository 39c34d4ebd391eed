"""Logs of hooks as a page shows them, put together from events."""

from datetime import UTC, datetime
from typing import Any

from pilothouse.console.hook_logs import logs_of
from pilothouse.store.operation_events import HOOK_LOG, EventRow


def event(number: int, lines: list[str], *, first: int, attempt: int = 1, **more: Any) -> EventRow:
    data = {"hook": "Job/db", "pod": "db-1", "container": "main", "run": 0, "first": first, "lines": lines} | more
    return EventRow(number, datetime.now(UTC), attempt, HOOK_LOG, "told", data)


def test_lines_of_one_log_are_put_together_and_each_is_there_once():
    (log,) = logs_of([event(1, ["a", "b"], first=1), event(2, ["b", "c"], first=2), event(3, ["d"], first=4)])
    assert (log.hook, log.lines, log.is_short) == ("Job db", ["a", "b", "c", "d"], False)


def test_attempts_and_restarts_have_logs_of_their_own_and_the_newest_is_the_last():
    logs = logs_of([
        event(1, ["a"], first=1), event(2, ["x"], first=1, pod="db-2"), event(3, ["a"], first=1, attempt=2),
        event(4, ["b"], first=1, run=1), event(5, ["y"], first=2, pod="db-2"),
    ])  # fmt: skip
    assert [(log.attempt, log.run, log.pod, log.lines) for log in logs] == [
        (1, 0, "db-1", ["a"]), (2, 0, "db-1", ["a"]), (1, 1, "db-1", ["b"]), (1, 0, "db-2", ["x", "y"])
    ]  # fmt: skip


def test_what_is_left_out_before_is_known():
    assert logs_of([event(9, ["late"], first=100)])[0].is_short
    (log,) = logs_of([event(1, [f"line {number}" for number in range(500)], first=1)])
    assert (log.lines[-1], log.is_short, len(log.lines)) == ("line 499", True, 120)
    (log,) = logs_of([event(1, ["x" * 1000] * 100, first=1)])
    assert (len(log.lines), log.is_short) == (16, True)


def test_events_of_another_version_break_no_page():
    odd = EventRow(1, datetime.now(UTC), 1, HOOK_LOG, "told", None)
    assert [(log.hook, log.lines) for log in logs_of([odd])] == [("", [])]

"""What the observer decides by counting: how often a failing cluster is logged, how much of one is indexed."""

from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from pilothouse.observer.admission import Admission
from pilothouse.observer.notices import _EACH_SECONDS, Notices
from pilothouse.settings import ObserverSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_cluster_that_always_fails_is_logged_once_in_ten_minutes_with_how_often_it_failed():
    clock = Clock()
    notices = Notices("c1", clock=clock)
    with capture_logs() as logged:
        for _ in range(5):
            notices.warn("cluster_not_watched", cause="refused")
        notices.warn("index_truncated")
        clock.now = _EACH_SECONDS - 1
        notices.warn("cluster_not_watched", cause="refused")
        clock.now = _EACH_SECONDS
        notices.warn("cluster_not_watched", cause="denied")

    facts: list[dict[str, Any]] = [dict(line) for line in logged]
    assert [(line["event"], line.get("cause"), line.get("more_since_the_last")) for line in facts] == [
        ("cluster_not_watched", "refused", None),
        ("index_truncated", None, None),
        ("cluster_not_watched", "denied", 5),
    ]
    assert {line["cluster_id"] for line in facts} == {"c1"}


@pytest.mark.parametrize(
    ("rows", "size", "fits"), [(0, 0, True), (7, 0, True), (8, 0, False), (0, 60, True), (0, 61, False), (8, 61, False)]
)
def test_rows_and_bytes_of_a_cluster_fit_up_to_the_limit_exactly(rows: int, size: int, fits: bool):  # noqa: FBT001
    admission = Admission("c1", ObserverSettings.model_construct(rows_per_cluster=10, values_bytes_per_cluster=100))
    admission._rows, admission._bytes = 3, 40

    assert admission._fits(rows, size) is fits


def test_a_row_without_room_is_left_out_and_said():
    admission = Admission("c1", ObserverSettings.model_construct(rows_per_cluster=2, values_bytes_per_cluster=100))

    assert [admission._take_row(), admission._take_row()] == [True, True]
    assert not admission.truncated
    assert admission._take_row() is False
    assert admission.truncated

"""How long watches last."""

from pilothouse.observer.watcher import spread_window


def test_watches_that_begin_together_do_not_end_together():
    assert {spread_window(20) for _ in range(1000)} == {16, 17, 18, 19, 20}
    assert {spread_window(5) for _ in range(1000)} == {4, 5}

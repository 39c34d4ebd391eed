"""Progress without a terminal: a line per change, in plain words."""

import pytest

from pilothouse.cli.progress import ProgressLine


def test_a_line_has_time_and_text_and_no_name_of_an_event(capsys: pytest.CaptureFixture[str]):
    with ProgressLine() as line:
        line.show({"at": "2026-11-30T05:00:01Z", "kind": "wait_progress", "text": "waiting for Pod a:\n\tb\x1b[2J"})

    assert capsys.readouterr().err == "05:00:01  waiting for Pod a: b\\x1b[2J\n"

"""The generated pages say what the code does: every code of an answer and every log event is explained."""

from tools import error_docs, log_docs


def test_the_page_of_errors_has_every_code_with_cause_and_fix():
    assert error_docs.PAGE.read_text() == error_docs.page(), "run `make docs`"


def test_the_page_of_log_events_explains_every_event_and_no_other():
    assert log_docs.events().keys() == log_docs.MEANINGS.keys(), "explain it in tools/log_docs.py, then `make docs`"
    assert log_docs.PAGE.read_text() == log_docs.page(), "run `make docs`"

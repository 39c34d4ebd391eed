"""Settings that contradict each other are refused when a process starts, with the variables that do."""

import pytest

from pilothouse.cli.configuration import read_settings
from pilothouse.errors import InvalidSettings
from tools import settings_docs


@pytest.mark.parametrize(
    "variables",
    [
        {"WORKER__LEASE_SECONDS": "2"},  # the fence is 4
        {"WORKER__LEASE_SECONDS": "2", "WORKER__LEASE_MARGIN_SECONDS": "1", "WORKER__FENCE_SECONDS": "4"},
        {"WORKER__FENCE_SECONDS": "6"},
        {"WORKER__RENEW_SECONDS": "4"},
        {"WORKER__RENEW_SECONDS": "0"},
        {"WORKER__LEASE_MARGIN_SECONDS": "0"},
        {"WORKER__LEASE_SECONDS": "nan"},
        {"OBSERVER__RENEW_SECONDS": "6"},
        {"OBSERVER__LEASE_SECONDS": "-1"},
    ],
    ids=str,
)
def test_what_would_break_a_promise_is_refused(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]):
    for name, value in variables.items():
        monkeypatch.setenv(f"PILOTHOUSE_{name}", value)

    with pytest.raises(InvalidSettings, match=r"PILOTHOUSE_(WORKER|OBSERVER): .*_SECONDS must be above 0"):
        read_settings()


def test_what_a_database_that_fails_over_wants_is_taken(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"LEASE_SECONDS": "30", "FENCE_SECONDS": "20"}.items():
        monkeypatch.setenv(f"PILOTHOUSE_WORKER__{name}", value)

    assert read_settings().worker.lease_seconds == 30


def test_the_page_about_the_settings_says_what_they_are():
    assert settings_docs.PAGE.read_text() == settings_docs.page(), "run `make docs`"

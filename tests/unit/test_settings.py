"""Settings that contradict each other are refused when a process starts, with the variables that do."""

import pytest

from pilothouse.cli.configuration import read_settings
from pilothouse.errors import InvalidSettings
from pilothouse.settings import unknown_variables, variables
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


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"WORKER__LEASE_SECONDS": "nan"}, "WORKER__LEASE_SECONDS: Input should be a finite number"),
        ({"WORKER__TIMEOUT_SECONDS": "inf"}, "WORKER__TIMEOUT_SECONDS: Input should be a finite number"),
        ({"WORKER__TIMEOUT_SECONDS": "0"}, "WORKER__TIMEOUT_SECONDS: Input should be greater than 0"),
        ({"WORKER__TIMEOUT_SECONDS": "7200"}, r"TIMEOUT_SECONDS \(7200\) is over LONGEST_TIMEOUT_SECONDS \(3600\)"),
        ({"RETENTION__OPERATION_SECONDS": "60"}, r"KEY_SECONDS \(86400\) must not be above OPERATION_SECONDS \(60\)"),
        ({"RETENTION__AUDIT_SECONDS": "86400"}, "AUDIT_FAILED_SECONDS .* must not be above AUDIT_SECONDS"),
        ({"CLUSTER__ANSWER_SECONDS": "61"}, r"ANSWER_SECONDS \(61\) must not be above REQUEST_SECONDS \(60\)"),
        ({"CLUSTER__LOOKUPS_PER_PROJECT": "64"}, r"LOOKUPS_PER_PROJECT \(64\) must be below LOOKUPS \(64\)"),
        ({"CHARTS__FILE_BYTES": "1000000000"}, "FILE_BYTES .* must not be above UNPACKED_BYTES"),
        ({"STREAMS": "5"}, r"STREAMS_PER_USER \(20\) must not be above STREAMS \(5\)"),
        ({"WAITS": "5"}, r"WAITS_PER_USER \(50\) must not be above WAITS \(5\)"),
        ({"PORT": "8443"}, "PORT and TLS__PORT are both 8443"),
        ({"HTTP__BYTES_PER_PROJECT": "1000"}, "HTTP__BYTES_PER_PROJECT .* is below BODY_BYTES"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL: Input should be 'debug', 'info', 'warning' or 'error'"),
        ({"TIME_ZONE": "Mars/Olympus"}, "'Mars/Olympus' is not a time zone"),
        ({"TRUSTED_PROXIES": "everybody"}, "TRUSTED_PROXIES: .*'everybody' does not appear to be"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused_with_their_names(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], said: str
):
    for name, value in wrong.items():
        monkeypatch.setenv(f"PILOTHOUSE_{name}", value)

    with pytest.raises(InvalidSettings, match=said):
        read_settings()


def test_a_level_is_read_in_either_case(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PILOTHOUSE_LOG_LEVEL", "WARNING")
    assert read_settings().log_level == "warning"


def test_what_looks_like_a_setting_and_is_none_is_named_with_the_nearest():
    nearest = {
        "PILOTHOUSE_PROT": "PILOTHOUSE_PORT",
        "PILOTHOUSE_WORKER_LEASE_SECONDS": "PILOTHOUSE_WORKER__LEASE_SECONDS",
        "PILOTHOUSE_WORKR__LEASE_SECONDS": "PILOTHOUSE_WORKER__LEASE_SECONDS",
        "pilothouse_datadir": "PILOTHOUSE_DATA_DIR",
        "PILOTHOUSE_FAVOURITE_COLOUR": "",
    }
    assert unknown_variables({**dict.fromkeys(nearest, "1"), "PATH": "/bin", "COLOUR": "red"}) == nearest


def test_every_setting_and_what_others_set_is_no_unknown_variable():
    known = dict.fromkeys(variables(), "1") | {"pilothouse_port": "1", "PILOTHOUSE_WORKER": "{}"}
    clients = dict.fromkeys(("PILOTHOUSE_URL", "PILOTHOUSE_TOKEN", "PILOTHOUSE_CA", "PILOTHOUSE_PROJECT_ID"), "1")
    kubernetes = {  # for the Services pilothouse and pilothouse-api
        "PILOTHOUSE_SERVICE_HOST": "10.0.0.1",
        "PILOTHOUSE_SERVICE_PORT_HTTPS": "8443",
        "PILOTHOUSE_PORT_8440_TCP_ADDR": "10.0.0.1",
        "PILOTHOUSE_API_PORT": "tcp://10.0.0.1:8440",
        "PILOTHOUSE_API_SERVICE_PORT": "8440",
    }
    assert unknown_variables(known | clients | kubernetes) == {}

"""The form of a source that changes: what it changes, what it leaves, and what contradicts itself or others."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pilothouse.console.sources import _read_change, _still_typed
from pilothouse.errors import InvalidRequest
from pilothouse.services.sources.records import ChangeSource, Credentials, Source

CHANGED = "it was changed since it was shown; look at what it is now, and again"
BOTH = "given, although none is to be left; take one of the two back"


def source(**changes: Any) -> Source:
    """Return a source that is synchronised every hour with a user's password."""
    known: dict[str, Any] = {"id": "1", "name": "charts", "kind": "http", "url": "https://charts.example"}
    known |= {"username": "ada", "has_ca": True, "verification": "none", "trusted": [], "unusable": []}
    known |= {"sync_seconds": 3600, "created_at": datetime(2026, 1, 1, tzinfo=UTC), "synced_at": None, "problem": ""}
    return Source(**{**known, **changes})


def form(**fields: str) -> dict[str, str]:
    """Return the form as the page shows it for that source, with what was typed."""
    shown = {"shown_sync_seconds": "3600", "shown_username": "ada", "sync_seconds": "3600", "username": "ada"}
    return {**shown, "password": "", "ca": "", **fields}


@pytest.mark.parametrize(
    ("fields", "now", "change"),
    [
        ({"sync_seconds": "600"}, {}, ChangeSource(sync_seconds=600)),
        ({"password": "new"}, {"sync_seconds": 86400}, ChangeSource(credentials=Credentials("ada", "new"))),
        ({"ca": "pem"}, {"username": "bob", "sync_seconds": 0}, ChangeSource(ca="pem")),
        ({"no_credentials": "yes"}, {}, ChangeSource(credentials=Credentials("", ""))),
        ({"no_credentials": "yes", "username": ""}, {}, ChangeSource(credentials=Credentials("", ""))),
        ({"no_ca": "yes"}, {}, ChangeSource(ca="")),
        ({"username": "eve", "password": "new"}, {}, ChangeSource(credentials=Credentials("eve", "new"))),
    ],
)
def test_only_what_was_typed_is_changed_whatever_others_changed(
    fields: dict[str, str], now: dict[str, Any], change: ChangeSource
):
    assert _read_change(form(**fields), source(**now)) == change


@pytest.mark.parametrize(
    ("fields", "now", "said"),
    [
        ({"no_credentials": "yes", "password": "new"}, {}, f"password: {BOTH}"),
        ({"no_credentials": "yes", "username": "eve"}, {}, f"username: {BOTH}"),
        ({"no_ca": "yes", "ca": "pem"}, {}, f"ca: {BOTH}"),
        ({"sync_seconds": "600"}, {"sync_seconds": 86400}, f"sync_seconds: {CHANGED}"),
        ({"password": "new"}, {"username": "bob"}, f"username: {CHANGED}"),
        ({"username": "eve"}, {"username": "bob"}, f"username: {CHANGED}"),
        ({"username": "eve"}, {}, "password: missing; give it together with the user name"),
        ({}, {"username": "bob", "sync_seconds": 0}, "Nothing was filled in that differs from what the source has."),
        (
            {"sync_seconds": "600"},
            {"sync_seconds": 600},
            "Nothing was filled in that differs from what the source has.",
        ),
    ],
)
def test_what_contradicts_itself_or_what_others_changed_is_refused(
    fields: dict[str, str], now: dict[str, Any], said: str
):
    with pytest.raises(InvalidRequest) as raised:
        _read_change(form(**fields), source(**now))
    assert str(raised.value) == said


def test_a_form_that_is_shown_again_has_what_was_typed_and_not_what_it_was_shown_with():
    assert _still_typed(form(username="eve", ca="pem")).keys() & {"sync_seconds", "username", "ca"} == {
        "username",
        "ca",
    }
    assert _still_typed({"name": "nginx", "username": "ada"}) == {"name": "nginx", "username": "ada"}

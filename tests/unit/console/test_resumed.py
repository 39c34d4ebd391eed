"""What a form that was kept through a log-in would do, in words."""

import pytest

from pilothouse.console.resumed import tell_action, tell_kept, tell_place

HOME = "/console/p/cn-north-4"


@pytest.mark.parametrize(
    ("path", "action", "place"),
    [
        (f"{HOME}/releases/test/a%20b/web/uninstall", "Uninstall", "test / a b / web"),
        (f"{HOME}/install?chart=1", "Plan an install", ""),
        (f"{HOME}/clusters", "Add a cluster", ""),
        (f"{HOME}/clusters/test/remove", "Remove", "test"),
        (f"{HOME}/releases/bulk", "Change several releases", ""),
        (f"{HOME}/some/new-thing", "Send the form", ""),
    ],
)
def test_a_form_is_told_by_what_it_does_and_for_what(path: str, action: str, place: str):
    assert (tell_action(path), tell_place(path)) == (action, place)


def test_fields_are_told_by_their_labels_and_what_only_a_page_knows_is_not():
    kept = {"once": "1", "seen": "2", "digest": "3", "timeout_seconds": "5", "rollback_on_failure": "yes", "name": ""}
    assert tell_kept(kept) == [("At most, in seconds", "5"), ("If it fails, undo it", "yes")]

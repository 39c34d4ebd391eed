"""Who wrote a revision, and why, by the operations of the release."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilothouse.services.releases.causes import find_cause, find_chart_digest, find_last_change
from pilothouse.store.release_changes import Change
from pilothouse.store.releases import RevisionRow

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def stored(number: int, description: str) -> RevisionRow:
    return RevisionRow(
        namespace="shop",
        secret=f"sh.helm.release.v1.web.v{number}",
        name="web",
        revision=number,
        resource_version=number,
        problem="",
        uid="uid",
        status="superseded",
        description=description,
        chart_name="web",
        chart_version="1.0.0",
        first_deployed=NOW,
        last_deployed=NOW,
        deleted_at=None,
        values_sealed=None,
        values_text_size=0,
        app_version="",
        manager="",
        origin_chart_id="",
        origin_description="",
        origin_operation_id="",
    )


def change(number: int, **different: Any) -> Change:
    usual: dict[str, Any] = {
        "operation_id": f"operation-{number}",
        "action": "upgrade",
        "state": "succeeded",
        "text": "",
        "user_id": "u",
        "user_name": "admin",
        "request_id": "r",
        "revision": number,
        "undo_revision": None,
        "failure": "",
        "created_at": NOW,
        "finished_at": NOW,
        "chart_id": "",
        "chart_version": "",
        "chart_digest": f"digest-{number}",
    }
    return Change(**usual | different)


@pytest.mark.parametrize(
    ("state", "failure", "cause"),
    [("cancelled", "", "cancel"), ("failed", "the pods are not ready", "rollback_on_failure")],
)
def test_a_revision_that_undoes_an_upgrade_says_why_and_has_the_chart_of_before(state: str, failure: str, cause: str):
    changes = [change(2, state=state, undo_revision=3, failure=failure), change(1)]

    undone = find_cause(stored(3, "Rollback to 1"), changes)

    assert undone is not None
    assert (undone.cause, undone.operation_id, undone.user_name) == (cause, "operation-2", "admin")
    assert find_chart_digest(stored(3, "Rollback to 1"), changes) == "digest-1"
    assert find_cause(stored(4, "Rollback to 1"), changes) is None


@pytest.mark.parametrize("undone", [True, False])
def test_a_rollback_to_what_restored_a_revision_has_the_chart_of_that(*, undone: bool):
    rollback = {"action": "rollback", "chart_digest": "", "chart_id": ""}
    undoing = change(2, undo_revision=3, restore_revision=1, text="timed out")
    restoring = undoing if undone else change(3, text="Rollback to 1", **rollback)
    changes = [change(5, text="Rollback to 4", **rollback), change(4, text="Rollback to 3", **rollback)]
    changes += [restoring, change(1)]

    assert find_chart_digest(stored(5, "Rollback to 4"), changes) == "digest-1"
    unclear = [change(4, text="Rollback to 5", **rollback), change(5, text="Rollback to 4", **rollback)]
    assert not find_chart_digest(stored(5, "Rollback to 4"), unclear)


def test_of_an_uninstalled_release_it_is_told_who_uninstalled_it_and_when():
    late = NOW + timedelta(minutes=1)
    gone = replace(stored(2, "Uninstallation complete"), status="uninstalled", origin_operation_id="operation-2")
    removal = change(3, action="uninstall", revision=None, user_name="ann", finished_at=late)

    found = find_last_change(gone, [removal, change(2)])

    assert found is not None
    assert (found.cause, found.user_name, found.at) == ("uninstall", "ann", late)
    assert find_last_change(replace(gone, status="deployed"), [removal, change(2)]) == find_cause(gone, [change(2)])
    before = replace(removal, finished_at=NOW - timedelta(minutes=1))  # of an earlier life: another client removed this
    assert find_last_change(gone, [change(2), before]) == find_cause(gone, [change(2)])


def test_a_revision_that_stands_tells_that_its_operation_has_failed():
    checked = change(2, state="failed")
    found = find_last_change(replace(stored(2, "Upgrade complete"), origin_operation_id="operation-2"), [checked])

    assert found is not None
    assert (found.cause, found.state) == ("upgrade", "failed")


@pytest.mark.parametrize(
    ("different", "known"),
    [
        ({"elsewhere": True}, True),
        ({"elsewhere": True, "action": "rollback"}, True),
        ({"elsewhere": False}, False),
        ({"elsewhere": True, "action": "test"}, False),
        ({"elsewhere": True, "revision": 3}, False),
        ({"elsewhere": True, "created_at": NOW - timedelta(hours=2), "finished_at": NOW - timedelta(hours=1)}, False),
    ],
)
def test_what_came_through_another_registration_is_known_by_number_and_time(different: dict[str, Any], *, known: bool):
    found = find_cause(stored(2, "Upgrade complete"), [change(2, **different)])

    assert (found is not None) == known

"""What a plan says in words."""

from typing import Any

import pytest

from pilothouse.console.plan_words import (
    count_hooks_left_out,
    count_live,
    list_options,
    name_options,
    tell_base,
    tell_order,
)
from pilothouse.services.releases.manifest_diff import Change
from pilothouse.services.releases.plan_changes import PlannedChange, PlannedChanges
from pilothouse.services.releases.plan_records import Base, Comparison, Deployed, PlanRecord
from pilothouse.states import Action


def record(action: Action = Action.UPGRADE, *, revision: int = 6, **order: Any) -> PlanRecord:
    operation = {"namespace": "n", "release_name": "r", "timeout_seconds": order.pop("seconds", None)}
    return PlanRecord(action, "id", "test", "", operation=operation, order=order, base=Base(revision))


def changes(*pairs: tuple[Change, Change]) -> PlannedChanges:
    objects = [PlannedChange("v1", "ConfigMap", "n", str(at), old, [], live, [], "") for at, (old, live) in
               enumerate(pairs)]  # fmt: skip
    summary = {name: sum(old == name for old, _ in pairs) for name in ("added", "changed", "removed", "unchanged")}
    return PlannedChanges(summary, "", objects, {}, [], "", "", [], [], [])


@pytest.mark.parametrize(
    ("action", "newest", "deployed", "told"),
    [
        (Action.UPGRADE, 6, 5, "Revision 6 failed; compared with revision 5, the last that was deployed."),
        (Action.ROLLBACK, 6, 5, "Revision 6 failed; compared with revision 5, the last that was deployed."),
        (Action.UNINSTALL, 6, 5, "Revision 6 is not deployed; compared with revision 5, the last that was deployed."),
        (Action.UPGRADE, 5, 5, ""),
        (Action.INSTALL, 0, 0, ""),
    ],
)
def test_a_plan_tells_why_it_is_compared_with_another_revision_than_the_newest(
    action: Action, newest: int, deployed: int, told: str
):
    assert tell_base(record(action, revision=newest), Comparison(Deployed(deployed))) == told


def test_what_an_apply_changes_in_the_cluster_is_counted_where_the_revision_says_otherwise():
    over_failed = changes(("unchanged", "changed"), ("unchanged", "unchanged"), ("unchanged", "unknown"))
    counted = {"added": 0, "changed": 1, "removed": 0, "unchanged": 1, "unknown": 1}
    assert count_live(record(), over_failed) == counted
    assert count_live(record(Action.ROLLBACK), over_failed) == counted
    assert count_live(record(), changes(("changed", "changed"), ("removed", "removed"))) == {}
    assert count_live(record(Action.INSTALL), over_failed) == {}


def test_options_that_were_chosen_are_listed_by_the_names_of_the_form():
    chosen = record(
        seconds=90, wait="ready", crds="skip", disable_hooks=True,
        options={"create_namespace": True, "force_conflicts": False, "description": "why"},
    )  # fmt: skip
    assert list_options(chosen, limit_seconds=300.0) == [
        ("Wait", "until objects are ready"),
        ("Time limit", "90 s"),
        ("CRDs of the chart", "skip"),
        ("Hooks", "none is run"),
        ("Create the namespace if it is missing", "yes"),
        ("Description", "why"),
    ]
    assert list_options(record(Action.UNINSTALL, description="gone"), limit_seconds=300.0) == [
        ("Time limit", "300 s, the server's"),
        ("Description", "gone"),
    ]


FORCE, MAKE = "“Take over fields that other programs manage”", "“Create the namespace if it is missing”"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("it would fail; set options.force_conflicts to go on", f"it would fail; choose the option {FORCE} to go on"),
        ("taken over from 'kubectl' (force_conflicts)", f"taken over from 'kubectl' ({FORCE})"),
        ("create it first, or set options.create_namespace", f"create it first, or choose the option {MAKE}"),
        (
            "release 'no_hooks' is in my.no_hooks, no_hooks_at_all",
            "release 'no_hooks' is in my.no_hooks, no_hooks_at_all",
        ),
    ],
)
def test_options_are_called_as_the_form_calls_them(said: str, told: str):
    assert name_options(said) == told


@pytest.mark.parametrize(
    ("planned", "told", "left_out"),
    [
        (record(Action.INSTALL, disable_hooks=True, hooks=2), "Install r", 0),
        (record(Action.UPGRADE), "Upgrade r", 0),
        (record(Action.ROLLBACK, to_revision=3), "Roll r back to revision 3", 0),
        (record(Action.UNINSTALL, disable_hooks=True, hooks=2), "Uninstall r", 2),
        (record(Action.UNINSTALL, disable_hooks=False, hooks=2), "Uninstall r", 0),
    ],
)
def test_a_plan_says_what_applying_it_does_and_which_hooks_of_an_uninstall_it_leaves_out(
    planned: PlanRecord, told: str, left_out: int
):
    assert (tell_order(planned), count_hooks_left_out(planned)) == (told, left_out)

"""What ``pilothouse status`` tells of a release."""

from typing import Any

import pytest
import typer

from pilothouse.cli import app
from pilothouse.cli.commands.history import revision_row
from pilothouse.cli.commands.status import status_lines
from pilothouse.cli.hints import typed

CHANGED = {
    "user_name": "ann",
    "user_id": "u",
    "cause": "install",
    "operation_id": "10e3",
    "state": "failed",
    "at": "2026-11-30T06:00:00.123Z",
}
RELEASE: dict[str, Any] = {
    "name": "web",
    "namespace": "n",
    "cluster_name": "c",
    "updated_at": "2026-11-30T05:00:00.000Z",
    "status": "failed",
    "revision": 1,
    "chart_name": "web",
    "chart_version": "1.0.0",
    "update_available": "",
    "description": "timed out",
    "changed_by": CHANGED,
    "manager": "",
    "operation": None,
    "problem": "",
    "notes": "",
}


def context(**flags: str) -> typer.Context:
    """The context of a command that was given these flags of the connection."""
    found = typer.Context(typer.main.get_command(app))
    found.meta["pilothouse.connection"] = flags
    return found


WHY = "  why: pilothouse operation show 10e3"


@pytest.mark.parametrize(
    ("status", "changed", "told"),
    [("failed", CHANGED, True), ("deployed", CHANGED, False), ("failed", None, False)],
)
def test_of_a_failed_release_it_is_told_where_the_evidence_is(
    *, status: str, changed: dict[str, str] | None, told: bool
):
    lines = list(status_lines(context(), {**RELEASE, "status": status, "changed_by": changed}))

    assert (WHY in lines) == told
    if told:
        assert lines[lines.index(WHY) - 1].startswith("CHANGED BY: ann, ")


def test_a_command_that_is_proposed_acts_where_this_one_acts():
    left = {**RELEASE, "revision": 0, "name": "w5"}
    place = {"in_namespace": "shop", "in_cluster": "demo", "named_context": "a b"}

    assert "pilothouse uninstall w5 -n shop" in "\n".join(status_lines(context(in_namespace="shop"), left))
    assert typed(context(**place), "upgrade", "w2", "./my web") == (
        "pilothouse upgrade w2 './my web' --context 'a b' --cluster demo -n shop"
    )
    assert typed(context(**place), "operation", "show", "10e3") == "pilothouse operation show 10e3 --context 'a b'"
    assert typed(context(), "test", "web", "--logs") == "pilothouse test web --logs"


def test_of_an_uninstalled_release_it_is_told_when():
    gone = {**RELEASE, "status": "uninstalled", "changed_by": {**CHANGED, "cause": "uninstall"}}

    assert "CHANGED BY: ann, uninstall, 2026-11-30T06:00:00Z, operation 10e3" in list(status_lines(context(), gone))


def test_history_tells_of_checks_that_failed_and_of_other_clients():
    row = {
        "revision": 1, "updated_at": "", "status": "deployed", "chart_name": "web", "chart_version": "1",
        "app_version": "", "chart_digest": "", "description": "Upgrade complete",
        "changed_by": {**CHANGED, "cause": "upgrade"},
    }  # fmt: skip
    assert revision_row(row)["DESCRIPTION"] == "Upgrade complete; the operation failed after that, in its checks"
    assert revision_row({**row, "status": "failed"})["DESCRIPTION"] == "Upgrade complete"
    assert revision_row({**row, "changed_by": {**CHANGED, "cause": "cancel"}})["DESCRIPTION"] == "Upgrade complete"
    other = revision_row({**row, "changed_by": None})
    assert (other["DESCRIPTION"], other["CHANGED BY"]) == ("Upgrade complete", "another client")


THERE = {"operation_id": "10e3", "action": "upgrade", "state": "running", "cluster_name": "east"}


@pytest.mark.parametrize(
    ("elsewhere", "told"),
    [
        (THERE, "IN PROGRESS: upgrade running through cluster east, another registration of the same API server"),
        (dict.fromkeys(THERE, ""), "IN PROGRESS: an operation of this server is at work on it through another"),
        (None, "LOCKED: what began this is no operation of this server"),
    ],
)
def test_what_is_at_work_under_another_name_of_the_cluster_is_no_foreign_lock(
    elsewhere: dict[str, str] | None, told: str
):
    found = {**RELEASE, "status": "pending-upgrade", "elsewhere": elsewhere}
    lines = list(status_lines(context(), found))

    assert any(line.startswith(told) for line in lines), lines
    assert any("unlock" in line for line in lines) == (elsewhere is None)
    assert any("operation follow 10e3" in line for line in lines) == (elsewhere is THERE)

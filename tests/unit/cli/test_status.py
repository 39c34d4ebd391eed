"""What ``pilothouse status`` tells of a release."""

from typing import Any

import pytest

from pilothouse.cli.commands.status import status_lines

CHANGED = {"user_name": "ann", "user_id": "u", "cause": "install", "operation_id": "10e3"}
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
WHY = "  why: pilothouse operation show 10e3"


@pytest.mark.parametrize(
    ("status", "changed", "told"),
    [("failed", CHANGED, True), ("deployed", CHANGED, False), ("failed", None, False)],
)
def test_of_a_failed_release_it_is_told_where_the_evidence_is(
    *, status: str, changed: dict[str, str] | None, told: bool
):
    lines = list(status_lines({**RELEASE, "status": status, "changed_by": changed}))

    assert (WHY in lines) == told
    if told:
        assert lines[lines.index(WHY) - 1].startswith("CHANGED BY: ann, ")

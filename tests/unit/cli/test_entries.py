"""What is known of a failed installation alone is no release, as with helm; what an uninstall does to a running one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.answers import answering
from tests.unit.cli.test_status import RELEASE

AT = "GET /api/v1/clusters/demo/namespaces/shop/releases/bad"
LISTED = {
    "app_version": "", "source": "", "source_removed_at": None, "update_deprecated": False, "cluster_id": "c1",
    "chart_digest": "", "elsewhere": None,
}  # fmt: skip
WEB: dict[str, Any] = {**RELEASE, **LISTED, "status": "failed", "revision": 4}
BAD: dict[str, Any] = {**WEB, "name": "bad", "revision": 0, "changed_by": None}
BEGUN: dict[str, Any] = {**BAD, "status": "pending-install"}
INSTALL = {"id": "77ab", "action": "install", "state": "running", "text": "hooks"}


def test_a_list_marks_what_was_never_installed_and_the_names_leave_it_out(tmp_path: Path):
    with answering(tmp_path, {"GET /api/v1/releases": [BAD, WEB]}) as server:
        table, names = server.typed("list").stdout, server.typed("list", "-q").stdout
        rows = json.loads(server.typed("list", "-o", "json").stdout)

    assert "failed (not installed)" in table
    assert names == "web\n"
    assert [(row["name"], row["installed"]) for row in rows] == [("bad", False), ("web", True)]


def test_a_begun_installation_is_listed(tmp_path: Path):
    with answering(tmp_path, {"GET /api/v1/releases": [{**BAD, "status": "pending-install"}]}) as server:
        assert server.typed("list", "-q").stdout == "bad\n"


@pytest.mark.parametrize(
    ("found", "status"),
    [(BAD, 1), ({**BEGUN, "operation": INSTALL}, 0), ({**BAD, "operation": INSTALL}, 0), ({**WEB, "name": "bad"}, 0)],
    ids=["never", "begun", "again", "failed"],
)
def test_the_status_of_what_was_never_installed_is_that_of_nothing(found: dict[str, Any], status: int, tmp_path: Path):
    with answering(tmp_path, {AT: found, "GET /api/v1/operations": [{"id": "77ab"}]}) as server:
        ends = [server.typed("status", "bad", *flags) for flags in ([], ["-o", "json"])]

    told = "pilothouse: release 'bad' was never installed: pilothouse operation show 77ab\n"
    assert [(one.returncode, one.stderr) for one in ends] == [(status, told if status else "")] * 2
    assert json.loads(ends[1].stdout)["info"]["status"] == found["status"]


@pytest.mark.parametrize("output", [[], ["-o", "json"]])
def test_a_dry_run_of_an_uninstall_tells_that_it_cancels_an_installation(output: list[str], tmp_path: Path):
    with answering(tmp_path, {AT: {**BEGUN, "operation": INSTALL}}) as server:
        said = server.typed("uninstall", "bad", "--dry-run", *output)

    assert (said.returncode, said.stderr) == (0, "")
    assert "77ab" in said.stdout
    assert {request for request, _ in server.asked} == {AT}

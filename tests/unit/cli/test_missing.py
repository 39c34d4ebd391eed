"""Who names a release or cluster that is not there is told where there is one, and nobody else is."""

from pathlib import Path
from typing import Any

import pytest

from pilothouse.errors import NeverInstalled, NotFound, PilothouseError, ReleaseMissing
from pilothouse.services.clusters import unknown_cluster
from tests.support.answers import answering

AT = "/api/v1/clusters/demo/namespaces/shop/releases/web"
ID = "0b6f5d1e-0000-4000-8000-000000000001"
CLUSTERS = [{"id": ID, "name": "demo"}]
THERE = {
    "name": "web",
    "namespace": "prod",
    "cluster_id": ID,
    "cluster_name": "demo",
    "revision": 3,
    "status": "failed",
}
HINT = "there is one in namespace prod of cluster demo"
GONE = ReleaseMissing("release 'web' does not exist in namespace 'shop' of cluster 'demo'")
#: What each command asks first of the release.
COMMANDS = {
    "status web": f"GET {AT}",
    "history web": f"GET {AT}/history",
    "get values web": f"GET {AT}/values",
    "get metadata web": f"GET {AT}",
    "get resources web": f"GET {AT}/resources",
    "diff web": f"GET {AT}/diff",
    "drift web": f"GET {AT}/diff",
    "wait web": f"GET {AT}",
    "rollback web": f"POST {AT}/rollback",
    "rollback web --dry-run": f"POST {AT}/plan",
    "uninstall web": f"GET {AT}",
    "uninstall web other": f"GET {AT}",
    "test web": f"POST {AT}/test",
    "upgrade web nginx@1.0.0": f"GET {AT}",
    "release unlock web --reason x": f"POST /api/v1/clusters/{ID}/unlock",
    "operation show web": f"GET {AT}",
}


def answers(request: str, error: PilothouseError, listed: list[dict[str, Any]]) -> dict[str, Any]:
    known = {"GET /api/v1/clusters": CLUSTERS, "GET /api/v1/releases": listed, "GET /api/v1/operations": []}
    return {**known, f"GET /api/v1/clusters/{ID}": CLUSTERS[0], request: error}


@pytest.mark.parametrize("typed", COMMANDS)
def test_every_command_tells_where_else_there_is_a_release(typed: str, tmp_path: Path):
    with answering(tmp_path, answers(COMMANDS[typed], GONE, [THERE])) as server:
        said = server.typed(*typed.split())

    assert (said.returncode, said.stderr.count(HINT)) == (1, 1), said.stderr


@pytest.mark.parametrize(
    ("error", "listed"),
    [
        (NotFound("scope.project: 'nope' is not an enabled project"), [THERE]),
        (NeverInstalled("release 'web' was never installed"), [THERE]),
        (GONE, []),
        (GONE, [{**THERE, "namespace": "shop"}]),
        (GONE, [{**THERE, "name": "web-2"}]),
        (GONE, [{**THERE, "revision": 0}]),
    ],
    ids=["project", "never-installed", "nowhere", "gone-just-now", "other-name", "never-installed-there"],
)
def test_no_place_is_told_if_there_is_none_or_something_else_is_missing(
    error: PilothouseError, listed: list[dict[str, Any]], tmp_path: Path
):
    with answering(tmp_path, answers(f"GET {AT}", error, listed)) as server:
        said = server.typed("status", "web")

    assert (said.returncode, "there is one in" in said.stderr) == (1, False), said.stderr


@pytest.mark.parametrize("typed", [["status", "web"], ["cluster", "show", "nope"]])
def test_who_names_an_unknown_cluster_is_told_which_there_are(typed: list[str], tmp_path: Path):
    missing = {f"GET {AT.replace('/demo/', '/nope/')}": unknown_cluster("nope")}
    with answering(tmp_path, {**answers("", GONE, [THERE]), **missing}) as server:
        said = server.typed(*typed, environment={"PILOTHOUSE_CLUSTER": "nope"})

    assert said.returncode == 1
    assert said.stderr.endswith("; there are: demo\n"), said.stderr


def test_an_unknown_project_is_told_by_the_flag(tmp_path: Path):
    refusal = NotFound("scope.project: 'nope' is not an enabled project in which user 'ann' has a role")
    with answering(tmp_path, {"POST /v3/auth/tokens": refusal}) as server:
        said = server.typed("status", "web", "--project", "nope")

    assert said.stderr.startswith("pilothouse: --project: 'nope' is not an enabled project"), said.stderr

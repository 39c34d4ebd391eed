"""Lines of logs are left out of evidence, and nothing else is."""

import json
from typing import Any

import pytest

from pilothouse.services.operations.logs import without_logs

POD = {"name": "web", "containers": [{"name": "main", "state": "running", "log": ["a line"]}]}


@pytest.mark.parametrize(
    ("found", "pods", "missing"),
    [
        (
            {"error": "late", "pods": [POD], "missing": ["events: 403"]},
            [{"name": "web", "containers": [{"name": "main", "state": "running", "log": []}]}],
            ["events: 403", "lines of logs: to see them takes pilothouse:logs:read"],
        ),
        ({"pods": [], "missing": []}, [], []),
        ({"pods": [{"name": "web", "containers": []}]}, [{"name": "web", "containers": []}], None),
    ],
)
def test_lines_are_left_out_and_told_as_missing(found: Any, pods: Any, missing: Any):
    left = json.loads(without_logs(json.dumps(found)))
    assert (left["pods"], left.get("missing"), left.get("error")) == (pods, missing, found.get("error"))


@pytest.mark.parametrize("damaged", ["", "no JSON", "[]", '{"pods": "all"}', '{"pods": [{"containers": [7]}]}'])
def test_nothing_is_left_of_what_is_damaged(damaged: str):
    assert without_logs(damaged) == ""

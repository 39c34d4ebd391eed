"""What the descriptions of the two APIs say exists, beside the routes that exist."""

import json
from pathlib import Path

import pytest

from pilothouse.api.cce.description import PATH, openapi
from tests.support.route_table import application

METHODS = {"get", "put", "post", "delete", "head", "patch"}


@pytest.fixture
def served(tmp_path: Path) -> set[tuple[str, str]]:
    """Return method and path of every route of the application."""
    return {(method, path) for method, _, path in (route.partition(" ") for route in application(tmp_path).routes)}


def operations(document: dict[str, dict[str, dict[str, object]]]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in document["paths"].items() for method in item.keys() & METHODS}


def test_every_route_of_the_vendors_wire_is_described_and_nothing_else(served: set[tuple[str, str]]):
    assert operations(openapi()) == {(method, path) for method, path in served if not path.startswith("/api/v1/")}


def test_the_description_is_served(served: set[tuple[str, str]]):
    assert ("GET", PATH) in served


def test_the_twins_are_named_as_the_vendor_names_them():
    names = {one["operationId"] for item in openapi()["paths"].values() for key, one in item.items() if key in METHODS}
    assert {"CreateAutopilotRelease", "ShowAutopilotUserChartsQuotas", "DeleteAutopilotChart"} <= names
    twins = {name for name in names if "Autopilot" in name}
    assert len(twins) == 14
    assert {name.replace("Autopilot", "") for name in twins} <= names


def test_the_published_document_is_the_one_that_the_server_serves():
    published = Path(__file__).parents[4] / "docs" / "compatible-openapi.json"
    assert json.loads(published.read_text()) == openapi(), "out of date: run 'make docs'"

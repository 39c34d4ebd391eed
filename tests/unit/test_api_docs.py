"""The API describes itself wholly, and the page in docs/ says the same."""

import ast
from pathlib import Path
from typing import Any

import pytest

import pilothouse.api.v1
from tools import api_docs


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return api_docs.describe()


def operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    }


def test_the_page_is_what_make_docs_writes():
    assert api_docs.PAGE.read_text() == api_docs.page(), "docs/api.md is old: run 'make docs'"


def test_every_operation_explains_itself_its_error_and_its_credentials(openapi: dict[str, Any]):
    for name, operation in operations(openapi).items():
        assert operation["description"], name
        assert "default" in operation["responses"], name
        assert "422" not in operation["responses"], name
        assert operation["security"] == ([] if "health" in name else [{"token": []}, {"signature": []}]), name


def test_every_success_with_a_body_has_a_schema(openapi: dict[str, Any]):
    bare = [
        name
        for name, operation in operations(openapi).items()
        for status, answer in operation["responses"].items()
        if status in {"200", "201"} and not answer["content"]["application/json"]["schema"]
    ]
    assert bare == []


def test_every_route_that_reads_a_body_describes_it(openapi: dict[str, Any]):
    reading = 0
    for file in Path(pilothouse.api.v1.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            reading += isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "read_json"
    assert reading == sum("requestBody" in operation for operation in operations(openapi).values()) > 0


def test_every_reference_leads_somewhere(openapi: dict[str, Any]):
    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(inner) for inner in node.values()))
        return set().union(*(references(inner) for inner in node)) if isinstance(node, list) else set()

    known = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    assert references(openapi) <= known

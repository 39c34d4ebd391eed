"""The API describes itself wholly, and the page in docs/ says the same."""

import json
from typing import Annotated, Any

import pytest
from pydantic import FailFast, ValidationError

from pilothouse.api.v1.clusters import CreateCluster
from pilothouse.api.v1.models import Body
from pilothouse.api.v1.routers import ROUTERS
from pilothouse.api.v1.routing import NativeRoute
from pilothouse.errors import InvalidRequest
from pilothouse.http.json_bodies import RELEASE, parse_json
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


def bodies() -> list[type[Body]]:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, NativeRoute)]
    return [route.body for route in routes if route.body is not None]


def test_page_and_document_are_what_make_docs_writes(openapi: dict[str, Any]):
    assert api_docs.PAGE.read_text() == api_docs.page(openapi), "docs/api.md is old: run 'make docs'"
    assert api_docs.DOCUMENT.read_text() == api_docs.document(openapi), "docs/openapi.json is old: run 'make docs'"


def test_every_operation_explains_itself_its_error_and_its_credentials(openapi: dict[str, Any]):
    for name, operation in operations(openapi).items():
        assert operation["description"], name
        assert "default" in operation["responses"], name
        assert "HTTPValidationError" not in str(operation["responses"]), name
        public = name.partition(" ")[2] in {"/api/v1/health", "/api/v1/login"}
        assert operation.get("security", []) == ([] if public else [{"token": []}, {"signature": []}]), name


def test_every_success_with_a_body_has_a_schema(openapi: dict[str, Any]):
    bare = [
        name
        for name, operation in operations(openapi).items()
        for status, answer in operation["responses"].items()
        if status in {"200", "201"} and not answer["content"]["application/json"]["schema"]
    ]
    assert bare == []


def test_every_route_is_one_whose_body_is_read_at_a_bounded_price():
    assert all(isinstance(route, NativeRoute) for router in ROUTERS for route in router.routes)
    assert len(bodies()) > 10
    assert all(issubclass(body, Body) for body in bodies())


def can_be_wrong_very_often(schema: Any) -> bool:
    """Return whether a core schema has items of which each can be wrong: pydantic builds an error for every one."""
    if isinstance(schema, list | tuple):
        return any(map(can_be_wrong_very_often, schema))
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if kind in {"list", "set", "frozenset", "tuple"} and not schema.get("fail_fast"):
        return True
    if kind == "dict" and schema.get("values_schema", {"type": "any"})["type"] != "any":
        return True
    return any(map(can_be_wrong_very_often, schema.values()))


def test_a_list_in_a_body_fails_at_its_first_wrong_item():
    class Slow(Body):
        items: list[int]

    class Fast(Body):
        items: Annotated[list[int], FailFast()]
        free: dict[str, Any]

    assert can_be_wrong_very_often(Slow.__pydantic_core_schema__)
    assert not can_be_wrong_very_often(Fast.__pydantic_core_schema__)
    slow = [body.__name__ for body in bodies() if can_be_wrong_very_often(body.__pydantic_core_schema__)]
    assert slow == [], "declare Annotated[list[…], FailFast()]"


def test_of_many_unknown_fields_one_error_is_built():
    with pytest.raises(ValidationError) as refused:
        CreateCluster.model_validate({f"field{number}": number for number in range(10_000)})

    assert refused.value.error_count() == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kubeconfg": ""}, "kubeconfg: unknown field; did you mean kubeconfig?"),
        ({"zone": ""}, "zone: unknown field; there are: name, kubeconfig, context"),
        ({"x" * 10**6: ""}, "x" * 100 + ": unknown field; there are:"),
    ],
)
def test_an_unknown_field_is_told_with_the_nearest_known_one(body: dict[str, Any], words: str):
    with pytest.raises(InvalidRequest) as refused:
        parse_json(json.dumps(body), CreateCluster, where="body", limits=RELEASE)

    assert str(refused.value).startswith(words)


def test_every_field_and_every_parameter_has_a_type(openapi: dict[str, Any]):
    untyped = [
        f"{schema_name}.{name}"
        for schema_name, schema in openapi["components"]["schemas"].items()
        for name, field in schema.get("properties", {}).items()
        if not field.keys() & {"type", "anyOf", "$ref"}
    ]
    untyped += [
        f"{route}: {one['name']}"
        for route, operation in operations(openapi).items()
        for one in operation.get("parameters", ())
        if not one["schema"].keys() & {"type", "anyOf", "$ref"}
    ]
    assert untyped == []


def test_every_reference_leads_somewhere(openapi: dict[str, Any]):
    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(inner) for inner in node.values()))
        return set().union(*(references(inner) for inner in node)) if isinstance(node, list) else set()

    known = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    assert references(openapi) <= known

"""Which references of a values schema lead inside the document, as Helm's validator resolves them."""

import json
from typing import Any

import pytest

from pilothouse.chart_archive.schemas import refuse_remote_references
from pilothouse.errors import InvalidChart

AT = "https://example.org/values.schema.json"
DEFS = "https://example.org/defs.json"
NEW, OLD = "https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"
BUNDLED = {"$id": DEFS, "definitions": {"map": {"type": "object"}}}

INSIDE: dict[str, Any] = {
    "a pointer": {"$ref": "#/definitions/a", "definitions": {"a": {}}},
    "a pointer below an id at the root": {"$id": AT, "properties": {"a": {"$ref": "#/definitions/s"}}},
    "the root by its id": {"$id": AT, "properties": {"a": {"$ref": f"{AT}#/definitions/s"}}},
    "the root by a relative reference": {"$id": AT, "properties": {"a": {"$ref": "values.schema.json#/x"}}},
    "the root by the name that Helm gives it": {"properties": {"a": {"$ref": "values.schema.json"}}},
    "a bundled schema": {"$schema": NEW, "properties": {"a": {"$ref": f"{DEFS}#/x"}}, "$defs": {"d": BUNDLED}},
    "a bundled schema by a relative reference": {"$id": AT, "$ref": "defs.json", "$defs": {"d": BUNDLED}},
    "a bundled schema of an older draft": {"$schema": OLD, "not": {"$ref": DEFS}, "definitions": {"d": BUNDLED}},
    "a pointer inside a bundled schema": {"$defs": {"d": {"$id": DEFS, "items": {"$ref": "#/definitions/map"}}}},
    "draft 4's id": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "allOf": [{"$ref": DEFS}, {"id": DEFS, "type": "object"}],
    },
    "a dialect": {"$ref": NEW},
    "a name that means nothing": {"$ref": "urn:example:x"},
    "a property named like a keyword": {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}},
}
OUTSIDE: dict[str, Any] = {
    "a URL": {"$ref": DEFS},
    "a file": {"$ref": "file:///etc/passwd"},
    "a relative reference": {"$ref": "defs.json"},
    "one relative to an id": {"$id": AT, "$ref": "defs.json"},
    "an id in data": {"$ref": DEFS, "enum": [{"$id": DEFS}]},
    "an id below a keyword that is none": {"$ref": DEFS, "x-defs": {"d": BUNDLED}},
    "an id under a keyword that the draft lacks": {"$schema": OLD, "not": {"$ref": DEFS}, "$defs": {"d": BUNDLED}},
    "an id as another draft writes it": {"not": {"$ref": DEFS}, "$defs": {"d": {"id": DEFS}}},
    "an id beside a reference": {
        "$schema": OLD,
        "not": {"$ref": DEFS},
        "definitions": {"d": {"$ref": "#", "$id": DEFS}},
    },
    "a pointer below an id that may count": {"x-defs": {"d": {"$id": DEFS, "not": {"$ref": "#/x"}}}},
    "an id in a part of another dialect": {"not": {"$ref": DEFS}, "$defs": {"d": {**BUNDLED, "$schema": OLD}}},
    "two ids": [["$defs", [["d", [["$id", DEFS], ["$id", AT]]]]], ["$ref", DEFS]],
    "an id that two readers resolve differently": {"$ref": "https://a/../b", "$defs": {"d": {"$id": "https://a/../b"}}},
    "a dialect of one's own": {"$schema": AT, "$id": AT},
    "many readings": {"a": {"$id": "a/", "b": {"$id": "b/", "c": {"$id": "c/", "d": {"$id": "d/", "$ref": "#"}}}}},
}


def written(value: Any) -> str:
    """JSON in which a list of pairs is an object, keys that occur twice included."""
    if isinstance(value, list) and value and all(isinstance(one, list) for one in value):
        return "{" + ", ".join(f"{json.dumps(key)}: {written(below)}" for key, below in value) + "}"
    return json.dumps(value)


@pytest.mark.parametrize("name", INSIDE)
def test_what_leads_inside_is_accepted(name: str):
    refuse_remote_references(written(INSIDE[name]).encode(), file="values.schema.json")


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_may_lead_elsewhere_is_refused(name: str):
    with pytest.raises(InvalidChart, match="only references within the file are allowed"):
        refuse_remote_references(written(OUTSIDE[name]).encode(), file="values.schema.json")


@pytest.mark.parametrize("text", ["true", "[]", '"$ref"', "7", '{"$ref": 7}', "[" * 200 + "]" * 200])
def test_what_holds_no_reference_is_accepted(text: str):
    refuse_remote_references(text.encode(), file="values.schema.json")

"""What a chart says of itself is read from the revision that stores it, or refused without harm."""

import base64
import gzip
import json
from typing import Any

import pytest

from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.stored_chart_texts import read_chart_texts


def stored(chart: Any) -> Secret:
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps({"chart": chart}).encode())))
    return {"metadata": {"namespace": "shop", "name": "web"}, "data": {"release": packed.decode()}}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_readme_schema_and_facts_are_told():
    metadata = {
        "name": "web",
        "version": "1.2.3",
        "appVersion": "9",
        "home": "https://example.org",
        "maintainers": [{"name": "Ada", "email": "ada@example.org"}],
        "dependencies": [{"name": "cache", "version": "^1", "repository": "oci://example.org/charts"}],
    }
    files = [{"name": "docs/README.md", "data": encoded("not this")}, {"name": "ReadMe.md", "data": encoded("# Web")}]
    found = read_chart_texts(stored({"metadata": metadata, "files": files, "schema": encoded('{"type": "object"}')}))
    assert (found.readme, found.schema) == ("# Web", '{"type": "object"}')
    assert (found.name, found.version, found.app_version, found.home) == ("web", "1.2.3", "9", "https://example.org")
    assert [(one.name, one.email) for one in found.maintainers] == [("Ada", "ada@example.org")]
    assert [(one.name, one.version) for one in found.dependencies] == [("cache", "^1")]


@pytest.mark.parametrize(
    "extra", [{}, {"files": None, "schema": None}, {"files": [{"name": "README.md", "data": None}]}]
)
def test_a_chart_that_says_nothing_is_no_fault(extra: dict[str, Any]):
    found = read_chart_texts(stored({"metadata": {"name": "web", "sources": None}, **extra}))
    assert (found.readme, found.schema, found.sources, found.maintainers) == ("", "", [], [])


def test_bytes_that_are_no_text_are_shown_as_far_as_they_go():
    data = base64.b64encode(b"R\xe9ad").decode()
    found = read_chart_texts(stored({"metadata": {"name": "web"}, "files": [{"name": "README", "data": data}]}))
    assert found.readme == "R\N{REPLACEMENT CHARACTER}ad"


@pytest.mark.parametrize(
    "chart",
    [
        None,
        [],
        {},
        {"metadata": {"name": 7}},
        {"metadata": {"name": "web"}, "schema": "no base64!"},
        {"metadata": {"name": "web"}, "files": [{"name": "README.md", "data": 7}]},
        {"metadata": {"name": "web"}, "files": [{"name": "README.md", "data": "%%%"}]},
    ],
)
def test_what_helm_would_not_write_is_corrupt(chart: Any):
    with pytest.raises(CorruptRelease, match="its chart cannot be read"):
        read_chart_texts(stored(chart))

"""Values that a chart's defaults do not have: told where they are most likely misspelt."""

from typing import Any

import pytest

from pilothouse.console.unknown_values import UnknownValue, find_unknown

DEFAULTS: dict[str, Any] = {"imageTag": "v1", "replicas": 1, "web": {"port": 80, "labels": {}}, "redis": {"host": "a"}}


def unknown(given: dict[str, Any], *, more: dict[str, Any] | None = None, schema: Any = None) -> list[UnknownValue]:
    return find_unknown([given], DEFAULTS, {**DEFAULTS, **given, **(more or {})}, schema=schema)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"imageTg": "v9"}, [UnknownValue("imageTg", "imageTag")]),
        ({"replica": 5}, [UnknownValue("replica", "replicas")]),
        ({"colour": "red"}, [UnknownValue("colour", "")]),
        ({"web": {"prot": 81}}, [UnknownValue("web.prot", "port")]),
        ({"web": {"annotations": {"a": "b"}}}, []),
        ({"web": {"labels": {"team": "x"}}}, []),
        ({"imageTag": "v9", "replicas": None, "web": {"port": 81}}, []),
        ({"gone": None}, []),
        ({"global": {"x": 1}}, []),
    ],
)
def test_what_the_defaults_do_not_have_is_told(given: dict[str, Any], found: list[UnknownValue]):
    assert unknown(given) == found


def test_what_a_subchart_or_the_schema_has_is_known():
    given = {"cache": {"size": 2}}
    assert unknown(given) == [UnknownValue("cache", "")]
    assert unknown(given, more={"cache": {"size": 2, "host": "b"}}) == []
    assert unknown(given, schema={"properties": {"cache": {}}}) == []
    assert unknown(given, schema={"properties": {"caches": {}}}) == [UnknownValue("cache", "caches")]
    assert unknown(given, schema=["odd"]) == [UnknownValue("cache", "")]


def test_the_same_of_two_layers_is_told_once_and_of_many_the_first():
    assert find_unknown([{"a": 1}, {"a": 2}], {}, {"a": 2}, schema=None) == [UnknownValue("a", "")]
    assert len(unknown({f"x{number}" * 200: 1 for number in range(200)})) == 20

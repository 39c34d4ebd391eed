from typing import Any

import pytest

from pilothouse.kubernetes.resources import ManifestObject
from pilothouse.services.releases.ignore_rules import IgnoreRule, ObjectRules

WEB = ManifestObject("apps/v1", "Deployment", "shop", "web")
LIVE = {"spec": {"containers": [{"name": "main", "image": "x"}, {"name": "side", "image": "y"}], "replicas": 2}}


@pytest.mark.parametrize(
    "rule",
    [
        {"pointer": "/spec/replicas"},
        {"pointer": "/spec"},
        {"pointer": "/spec/*"},
        {"pointer": "/spec/replicas", "kind": "Deployment", "group": "apps", "name": "web"},
    ],
)
def test_a_rule_covers_a_field_and_what_is_below_it(rule: dict[str, str]):
    assert ObjectRules([IgnoreRule(**rule)], WEB).covers(("spec", "replicas"), LIVE)


@pytest.mark.parametrize(
    "rule",
    [
        {"pointer": "/spec/replicas/x"},
        {"pointer": "/spec/replicas", "kind": "StatefulSet"},
        {"pointer": "/spec/replicas", "group": "batch"},
        {"pointer": "/spec/replicas", "name": "other"},
    ],
)
def test_a_rule_covers_nothing_else(rule: dict[str, str]):
    assert not ObjectRules([IgnoreRule(**rule)], WEB).covers(("spec", "replicas"), LIVE)


@pytest.mark.parametrize("item", ["*", "1", "side"])
def test_items_are_named_by_place_or_name(item: str):
    rules = ObjectRules([IgnoreRule(f"/spec/containers/{item}/image")], WEB)
    assert rules.covers(("spec", "containers", "1", "image"), LIVE)
    assert rules.covers(("spec", "containers", "0", "image"), LIVE) is (item == "*")
    left: Any = rules.without(LIVE)
    assert left["spec"]["containers"][1] == {"name": "side"}
    assert len(left["spec"]["containers"]) == 2


def test_what_is_empty_without_the_ignored_is_left_out_too():
    rules = ObjectRules([IgnoreRule("/metadata/annotations/a.io~1b")], WEB)
    assert rules.without({"metadata": {"annotations": {"a.io/b": "1"}}, "x": {}}) == {"x": {}}
    assert rules.without({"metadata": {"annotations": {"a.io/b": "1", "c": "2"}}}) == {
        "metadata": {"annotations": {"c": "2"}}
    }
    assert rules.without({"metadata": {"annotations": {}}}) == {"metadata": {"annotations": {}}}


def test_the_empty_pointer_is_the_whole_object():
    assert ObjectRules([IgnoreRule("", kind="Deployment")], WEB).ignore_all
    assert not ObjectRules([IgnoreRule("/")], WEB).ignore_all

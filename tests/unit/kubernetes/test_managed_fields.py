import json
from typing import Any

import pytest

from pilothouse.kubernetes.managed_fields import FieldOwners, applied_fields, is_controller

CREATED = "2026-01-01T00:00:00Z"


def owned(manager: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
    entry = {"manager": manager, "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1": fields}
    return entry | more


def live(*entries: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": CREATED, "managedFields": list(entries)}, **members}


def key(**of: Any) -> str:
    return "k:" + json.dumps(of, separators=(",", ":"))


CONTAINERS = {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}}


@pytest.mark.parametrize(
    "manager", ["kube-controller-manager", "my-Operator", "vertical-pod-autoscaler", "kubelet", "kube-scheduler"]
)
def test_controllers_are_known_by_their_names(manager: str):
    assert is_controller(manager)


@pytest.mark.parametrize("manager", ["kubectl-edit", "kubectl-controller", "helm", "curl", ""])
def test_others_are_no_controllers(manager: str):
    assert not is_controller(manager)


def test_a_field_belongs_to_controllers_if_nobody_else_owns_it():
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
    path = ("spec", "replicas")
    spec = {"spec": {"replicas": 3}}
    assert FieldOwners(live(owned("kube-controller-manager", fields), **spec)).belongs_to_controllers(path)
    both = live(owned("kube-controller-manager", fields), owned("kubectl", fields), **spec)
    assert not FieldOwners(both).belongs_to_controllers(path)
    assert not FieldOwners(live(**spec)).belongs_to_controllers(path)
    assert not FieldOwners(live(owned("kubelet", {"f:spec": {"f:other": {}}}), **spec)).belongs_to_controllers(path)


def test_items_of_lists_are_found_by_key_value_and_place():
    named: dict[str, Any] = {"f:spec": {"f:containers": {key(name="b"): {".": {}, "f:image": {}}}}}
    owners = FieldOwners(live(owned("x-controller", named), **CONTAINERS))
    assert owners.belongs_to_controllers(("spec", "containers", "1", "image"))
    assert not owners.belongs_to_controllers(("spec", "containers", "0", "image"))
    fields: dict[str, Any] = {"f:set": {'v:"two"': {}}, "f:list": {"i:0": {}}, "f:whole": {}}
    members = {"set": ["one", "two"], "list": [1, 2], "whole": [{"a": 1}]}
    owners = FieldOwners(live(owned("x-controller", fields), **members))
    found = [path for path in (("set", "0"), ("set", "1"), ("list", "0"), ("list", "1"), ("whole", "0", "a"))
             if owners.belongs_to_controllers(path)]  # fmt: skip
    assert found == [("set", "1"), ("list", "0"), ("whole", "0", "a")]


def test_what_others_set_beside_the_stated_fields_is_foreign():
    stated = {"f:data": {"f:a": {}}, "f:spec": {"f:containers": {key(name="a"): {"f:image": {}}}}}
    added = {
        "f:data": {".": {}, "f:a": {}, "f:b": {}},
        "f:spec": {"f:containers": {key(name="a"): {"f:env": {}}, key(name="b"): {".": {}, "f:image": {}}}},
        "f:status": {"f:x": {}},
        "f:metadata": {"f:finalizers": {}, "f:annotations": {"f:z": {}}},
    }
    members = {
        "data": {"a": "1", "b": "2"},
        "spec": {"containers": [{"name": "a", "env": []}, {"name": "b"}]},
        "status": {"x": 1},
    }
    found = live(owned("kubectl-edit", added), **members)
    found["metadata"] |= {"annotations": {"z": "1"}, "finalizers": ["f"]}
    assert set(FieldOwners(found).foreign(stated)) == {
        ("data", "b"),
        ("spec", "containers", "0", "env"),
        ("spec", "containers", "1"),
        ("metadata", "annotations", "z"),
    }


@pytest.mark.parametrize(
    "entry",
    [
        owned("helm", {"f:b": {}}),
        owned("some-controller", {"f:b": {}}),
        owned("kubectl-create", {"f:b": {}}, time=CREATED),
        owned("kubectl", {"f:b": {}}, subresource="status"),
        owned("kubectl", {"f:gone": {}}),
    ],
)
def test_what_helm_controllers_and_the_maker_set_is_not_foreign(entry: dict[str, Any]):
    assert list(FieldOwners(live(entry, b=1)).foreign({})) == []


def test_who_edits_in_the_second_of_the_making_has_not_made_it():
    edit = owned("kubectl-edit", {"f:b": {}}, time=CREATED)
    assert list(FieldOwners(live(owned("helm", {"f:a": {}}, time=CREATED), edit, b=1)).foreign({})) == [("b",)]


def test_the_stated_fields_are_those_of_helms_apply():
    entries = [owned("helm", {"f:a": {}}), owned("helm", {"f:b": {}}, operation="Apply")]
    assert applied_fields(live(*entries)) == {"f:b": {}}
    assert applied_fields({"metadata": {"managedFields": "none"}}) == {}
    texts = owned("helm", {"f:stringData": {"f:a": {}}, "f:data": {"f:b": {}}}, operation="Apply")
    assert applied_fields(live(texts))["f:data"] == {"f:a": {}, "f:b": {}}


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        {"f:list": {"k:{": {}, "k:[]": {}, "v:": {}, "i:9": {}, "i:x": {}, "k:" + "9" * 5000: {}}},
        {"f:list": 7},
    ],
)
def test_managed_fields_may_hold_anything(fields: Any):
    found = live({"manager": "kubectl", "fieldsV1": fields}, {"manager": 1}, list=[{"name": []}, [], 1])
    found["metadata"]["managedFields"] += [None, "x"]
    owners = FieldOwners(found)
    assert {path[:1] for path in owners.foreign({})} <= {("list",)}
    assert not owners.belongs_to_controllers(("list", "0"))

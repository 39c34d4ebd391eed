"""What differs between two sets of objects."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.errors import InvalidRequest
from pilothouse.kubernetes.resources import manifest_parts, without_secret_data
from pilothouse.services.releases.manifest_diff import FieldDifference, ObjectDifference, compare_objects


def thing(name: str = "web", *, version: str = "v1", kind: str = "Thing", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}


def compared(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[ObjectDifference]:
    before, after = (manifest_parts(documents, namespace="shop") for documents in (old, new))
    return compare_objects(before, after, show=without_secret_data)


def fields_of(old: Any, new: Any) -> list[tuple[str, str, Any, Any]]:
    [found] = compared([thing(spec=old)], [thing(spec=new)])
    return [(one.path, one.change, one.old, one.new) for one in found.fields]


CONTAINERS = [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 2}, [("/spec/a", "changed", 1, 2)]),
        ({"a": 1}, {}, [("/spec/a", "removed", 1, None)]),
        ({}, {"a": None}, [("/spec/a", "added", None, None)]),
        ({"a": None}, {"a": 1}, [("/spec/a", "changed", None, 1)]),
        ({"a": 1}, {"a": True}, [("/spec/a", "changed", 1, True)]),
        ({"a": {"b": 1}}, {"a": [1]}, [("/spec/a", "changed", {"b": 1}, [1])]),
        ({"a/b~c": 1}, {"a/b~c": 2}, [("/spec/a~1b~0c", "changed", 1, 2)]),
        ([1, 2], [1, 3, 4], [("/spec/1", "changed", 2, 3), ("/spec/2", "added", None, 4)]),
        ([1, 2], [2], [("/spec/0", "changed", 1, 2), ("/spec/1", "removed", 2, None)]),
        (CONTAINERS, CONTAINERS[::-1], [("/spec", "changed", CONTAINERS, CONTAINERS[::-1])]),
        (CONTAINERS, [{"name": "b", "image": "b:2"}], [
            ("/spec/0/image", "changed", "b:1", "b:2"),
            ("/spec/0", "removed", {"name": "a", "image": "a:1"}, None),
        ]),
        (CONTAINERS, [{"name": "c"}, *CONTAINERS], [("/spec/0", "added", None, {"name": "c"})]),
        ([{"name": "a"}, {"name": "a"}], [{"name": "a"}], [("/spec/1", "removed", {"name": "a"}, None)]),
    ],
)  # fmt: skip
def test_fields_are_named_by_pointers(old: Any, new: Any, expected: list[tuple[str, str, Any, Any]]):
    assert fields_of(old, new) == expected


def test_every_object_of_both_is_told():
    old = [thing("a"), thing("b", spec=1), thing("gone"), thing("c", version="apps/v1beta1")]
    new = [thing("b", spec=2), thing("new"), thing("a"), thing("c", version="apps/v1"), thing("a", kind="Other")]
    assert [(one.kind, one.name, one.change) for one in compared(old, new)] == [
        ("Thing", "b", "changed"),
        ("Thing", "new", "added"),
        ("Thing", "a", "unchanged"),
        ("Thing", "c", "changed"),
        ("Other", "a", "added"),
        ("Thing", "gone", "removed"),
    ]


def test_data_of_secrets_is_masked_and_told_apart():
    old = thing(kind="Secret", data={"same": "x", "changed": "x", "gone": "x"}, type="Opaque")
    new = thing(kind="Secret", data={"same": "x", "changed": "y", "new": "z"}, type="other")
    [found] = compared([old], [new])
    assert found.fields == [
        FieldDifference("/data/changed", "changed", "******", "******"),
        FieldDifference("/data/gone", "removed", "******", None),
        FieldDifference("/data/new", "added", None, "******"),
        FieldDifference("/type", "changed", "Opaque", "other"),
    ]


def test_a_secret_whose_data_is_no_mapping_of_texts_is_not_shown():
    old = thing(kind="Secret", data={"deep": {"password": "hidden-one"}})
    for data in ({"deep": {"password": "hidden-two"}}, {"deep": ["hidden-two"]}, {"deep": "hidden-two"}):
        assert "hidden" not in str([vars(one) for one in compared([old], [thing(kind="Secret", data=data)])[0].fields])


NAMES = st.sampled_from(["name", "a", "b/c", "~"])
LEAVES = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y"])
TREES = st.recursive(LEAVES, lambda below: st.lists(below, max_size=4) | st.dictionaries(NAMES, below, max_size=4))


@given(TREES, TREES)
def test_what_is_told_is_all_that_differs(old: Any, new: Any):
    """An object is unchanged exactly if it is the same, and what is told leads from the old one to the new one."""
    [found] = compared([thing(spec=old)], [thing(spec=new)])
    assert (found.change == "unchanged") == is_same(old, new) == (not found.fields)
    for one in found.fields:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in one.path.split("/")[1:]]
        if one.change != "removed":
            assert is_same(at(thing(spec=new), steps), one.new)
        if one.change == "removed":
            assert is_same(at(thing(spec=old), steps), one.old)


@given(TREES)
def test_a_copy_is_unchanged(tree: Any):
    assert [one.change for one in compared([thing(spec=tree)], [thing(spec=copy.deepcopy(tree))])] == ["unchanged"]


def at(document: Any, steps: list[str]) -> Any:
    for step in steps:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def is_same(old: Any, new: Any) -> bool:
    """Equal as JSON: 1 is not true."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(is_same(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(is_same, old, new))
    return type(old) is type(new) and old == new


def test_pointers_that_an_answer_cannot_hold_are_refused():
    old, new = ({"k" * 20_000: [value] * 300} for value in (1, 2))
    with pytest.raises(InvalidRequest, match="longer than 4 MiB, at Thing 'web'; compare revisions that differ less"):
        fields_of(old, new)

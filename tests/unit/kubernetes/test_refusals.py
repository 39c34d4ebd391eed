"""Conflicts of server-side apply, as an API server names them, and as one could that means no good."""

from typing import Any

import pytest

from pilothouse.kubernetes.refusals import FieldConflict, read_conflicts, read_missing_namespace


def status(*causes: Any) -> dict[str, Any]:
    return {"kind": "Status", "code": 409, "reason": "Conflict", "details": {"causes": list(causes)}}


def cause(message: str, field: str = ".data.text", reason: str = "FieldManagerConflict") -> dict[str, str]:
    return {"reason": reason, "message": message, "field": field}


@pytest.mark.parametrize(
    ("message", "manager"),
    [
        ('conflict with "kubectl-edit" using v1', "kubectl-edit"),
        ('conflict with "kubectl-edit" using v1 at 2026-11-01T08:30:00Z', "kubectl-edit"),
        ('conflict with "argocd-controller"', "argocd-controller"),
        (
            'conflict with "kube-controller-manager" with subresource "scale" using apps/v1',
            "kube-controller-manager (subresource scale)",
        ),
        ("conflict with somebody", "another manager"),
        ('conflict with "a\x1b[2Jb" using v1', "a [2Jb"),
    ],
)
def test_a_conflict_has_its_field_and_manager(message: str, manager: str):
    assert read_conflicts(status(cause(message))) == (FieldConflict(".data.text", manager),)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"details": None},
        {"details": {"causes": "x"}},
        {"details": {"causes": [None, 1, {}]}},
        status(cause("conflict with x", reason="FieldValueInvalid")),
    ],
)
def test_another_refusal_is_no_conflict(other: dict[str, Any]):
    assert read_conflicts(other) == ()


def test_a_server_cannot_name_more_than_people_read():
    (*_, last) = found = read_conflicts(status(*(cause("conflict", field="x" * 10_000) for _ in range(1000))))
    assert (len(found), len(last.field)) == (50, 200)


@pytest.mark.parametrize(
    ("other", "namespace"),
    [
        ({"reason": "NotFound", "details": {"kind": "namespaces", "name": "new"}}, "new"),
        ({"reason": "NotFound", "details": {"kind": "configmaps", "name": "new"}}, ""),
        ({"reason": "Forbidden", "details": {"kind": "namespaces", "name": "new"}}, ""),
        ({"reason": "NotFound", "details": None}, ""),
        ({}, ""),
    ],
)
def test_a_namespace_that_is_not_there_is_read_from_the_details(other: dict[str, Any], namespace: str):
    assert read_missing_namespace(other) == namespace

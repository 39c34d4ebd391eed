"""What actions decide without asking anybody: which objects of hooks may go, which revisions were replaced."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pilothouse.kubernetes.helm_secrets import UNINSTALLING
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.kubernetes.resources import ManifestObject
from pilothouse.services.releases.commands import HelmOptions
from pilothouse.worker.actions.hooks import _began, _why_left
from pilothouse.worker.actions.manifests import identity, is_kept
from pilothouse.worker.actions.post_actions import _replaced, named_objects_event
from pilothouse.worker.actions.revision_action import to_prune
from pilothouse.worker.state import ReleaseSnapshot
from tests.support.revisions import NOW, Revision

STORED = Revision(2, "pending-upgrade").stored()
CREATED = {"creationTimestamp": (NOW + timedelta(seconds=1)).isoformat()}


def hook(kind: str = "Job", **metadata: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {**CREATED, **metadata}}


@pytest.mark.parametrize(
    ("live", "why"),
    [
        (hook(), ""),
        (hook(annotations=None), ""),
        (hook("CustomResourceDefinition"), "CRD"),
        (hook(annotations={"helm.sh/resource-policy": " Keep "}), "resource-policy"),
        (hook(annotations={"helm.sh/resource-policy": "delete"}), ""),
        (hook(annotations={"meta.helm.sh/release-name": "other"}), "'other'"),
        (hook(creationTimestamp="2025-12-31T23:59:59Z"), "existed before"),
        (hook(creationTimestamp="2025-12-31T23:59:59"), "existed before"),
        (hook(creationTimestamp="2026-01-01T00:00:00Z"), ""),
    ],
)
def test_the_object_of_a_hook_is_left_if_it_is_not_surely_this_attempts(live: dict[str, Any], why: str):
    found = _why_left(live, _began(STORED))

    assert (why in found, bool(found)) == (True, bool(why))


def test_an_uninstall_created_no_revision_so_that_the_time_of_its_action_counts():
    """Its time is the worker's clock, which may be ahead of the cluster's."""
    long_after = NOW + timedelta(hours=1)
    stored = replace(STORED, status=UNINSTALLING, acted_at=long_after)

    assert (
        _why_left(hook(creationTimestamp=(long_after - timedelta(hours=1)).isoformat()), _began(stored))
        == "it existed before"
    )
    assert _why_left(hook(creationTimestamp=long_after.isoformat()), _began(stored)) == ""


def snapshot(*statuses: str) -> ReleaseSnapshot:
    return ReleaseSnapshot(tuple(ReleaseLabels(number, status, {}) for number, status in enumerate(statuses, 1)))


@pytest.mark.parametrize(
    ("statuses", "before", "replaced"),
    [
        ([], 1, []),
        (["deployed", "deployed"], 2, [1]),
        (["superseded", "deployed"], 2, [1]),
        (["superseded", "failed", "failed", "deployed"], 4, [3, 2, 1]),
        (["superseded", "superseded", "failed", "deployed"], 4, [3, 2]),
        (["deployed", "uninstalled", "failed", "deployed"], 4, [3]),
        (["deployed", "pending-upgrade", "deployed"], 3, []),
        (["failed", "deployed", "deployed"], 2, [1]),
    ],
)
def test_replaced_are_the_failures_right_before_and_the_last_that_was_deployed(
    statuses: list[str], before: int, replaced: list[int]
):
    assert [one.revision for one in _replaced(snapshot(*statuses), before=before)] == replaced


@pytest.mark.parametrize(
    ("newest", "limit", "pruned"), [(None, 10, 0), (9, 10, 0), (10, 10, 10), (11, 10, 10), (3, 0, 0), (1, 1, 1)]
)
def test_helm_counts_revisions_only_when_there_can_be_too_many(newest: int | None, limit: int, pruned: int):
    labels = ReleaseLabels(newest, "deployed", {}) if newest is not None else None

    assert to_prune(HelmOptions(history_max=limit), labels) == pruned


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ({}, False),
        ({"annotations": None}, False),
        ({"annotations": {"helm.sh/resource-policy": "KEEP"}}, True),
        ({"annotations": {"helm.sh/resource-policy": "never"}}, False),
    ],
)
def test_an_object_outlives_its_release_only_if_it_says_so(metadata: dict[str, Any], kept: bool):  # noqa: FBT001
    assert is_kept({"metadata": metadata}) is kept


def test_an_event_about_no_object_is_none():
    assert named_objects_event("orphans_removed", "removed: ", []) == ()
    [event] = named_objects_event("orphans_removed", "removed: ", ["Job/a", "Job/b"])
    assert (event.kind, event.text) == ("orphans_removed", "removed: Job/a, Job/b")


def test_an_object_is_the_same_in_another_version_of_its_group_only():
    first, other = (ManifestObject(f"apps/{version}", "Deployment", "shop", "web") for version in ("v1", "v1beta1"))
    assert identity(first) == identity(other)
    assert identity(first) != identity(replace(first, api_version="extensions/v1"))
    assert identity(first) != identity(replace(first, namespace="other"))

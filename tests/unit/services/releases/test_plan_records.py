"""The record of a plan: what its digest binds, who can open it, and what is shown of hooks and values."""

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import PlanMoved
from pilothouse.kubernetes.refusals import FieldConflict
from pilothouse.kubernetes.stored_hooks import StoredHook
from pilothouse.services.releases.commands import UpgradeCommand
from pilothouse.services.releases.plan_changes import find_origins, hooks_to_run
from pilothouse.services.releases.plan_live import describe_conflicts, note_conflicts, note_warnings
from pilothouse.services.releases.plan_records import (
    Base,
    Comparison,
    Deployed,
    LiveChange,
    PlanRecord,
    Source,
    open_comparison,
    open_record,
    seal_plan,
)
from pilothouse.settings import ChartLimits
from pilothouse.states import Action

KEYS = MasterKeys({b"keys": b"\1" * 32})
OPERATION = {
    "namespace": "shop",
    "release_name": "web",
    "chart_digest": "d1",
    "chart_id": "c1",
    "chart_name": "web",
    "chart_version": "1.0.0",
    "include_hooks": True,
    "revision": 3,
    "base_revision": 2,
    "base_uid": "u",
    "base_version": "7",
    "description": "",
    "status_description": "Preparing upgrade",
    "timeout_seconds": None,
    "warning": None,
}
ORDER = {
    "values": {"text": "x"},
    "merged_values": {"text": "x"},
    "first_deployed": "2026-01-01T00:00:00+00:00",
    "disable_hooks": False,
    "reset_values": True,
    "reuse_values": False,
    "recreate": False,
    "wait": "none",
}


def record(**changes: Any) -> PlanRecord:
    fields: dict[str, Any] = {
        "action": Action.UPGRADE,
        "cluster_id": "cluster",
        "cluster_name": "one",
        "api_server": "127.0.0.1:6443",
        "operation": OPERATION,
        "order": ORDER,
        "base": Base(revision=2, uid="u", version="7"),
        "manifest": "---\n# Source: web/templates/a.yaml\nkind: A\n",
        "notes": "Hello.",
        "hooks": [StoredHook(path="web/templates/hook.yaml", manifest="kind: Job\n")],
        "values": {"text": "x"},
        "salt": "salt",
        **changes,
    }
    return PlanRecord(**fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"action": Action.ROLLBACK},
        {"cluster_id": "other"},
        {"api_server": "127.0.0.1:7443"},
        {"operation": {**OPERATION, "chart_digest": "d2"}},
        {"order": {**ORDER, "crds": "replace"}},
        {"base": Base(revision=3, uid="u", version="7")},
        {"base": Base(revision=2, uid="v", version="7")},
        {"base": Base(revision=2, uid="u", version="8")},
        {"manifest": "---\n# Source: web/templates/a.yaml\nkind: B\n"},
        {"notes": "Good bye."},
        {"hooks": []},
        {"hooks": [StoredHook(path="web/templates/hook.yaml", manifest="kind: Pod\n")]},
        {"values": {"text": "y"}},
        {"salt": "pepper"},
    ],
)
def test_the_digest_binds_all_that_must_not_move(changes: dict[str, Any]):
    assert record(**changes).digest() != record().digest()


def test_the_digest_does_not_bind_what_is_only_shown():
    assert record(findings=["f"]).digest() == record().digest()
    assert record(operation=dict(reversed(OPERATION.items()))).digest() == record().digest()


def test_a_salt_of_its_own_keeps_values_from_being_guessed():
    fields = {name: value for name, value in msgspec.structs.asdict(record()).items() if name != "salt"}
    assert len({PlanRecord(**fields).digest() for _ in range(3)}) == 3


COMPARISON = Comparison(
    base=Deployed(1, "kind: A\n", "shop", {"text": "w"}, {"text": "w"}),
    sources=[Source("previous", {"text": "w"})],
    live=[
        LiveChange("v1", "Pod", "shop", "a", live={"a": 1}, applied={"a": 2}, conflicts=(FieldConflict(".a", "hand"),))
    ],
    warnings=["a warning"],
)


def test_both_parts_are_opened_for_their_own_plan_only():
    plan, comparison = seal_plan(record(), COMPARISON, keys=KEYS, plan_id="p1")
    assert open_record(plan, keys=KEYS, plan_id="p1") == record()
    assert open_record(plan, keys=KEYS, plan_id="p1").digest() == record().digest()
    assert open_comparison(comparison, plan, keys=KEYS, plan_id="p1") == COMPARISON
    for broken, plan_id in ((plan, "p2"), (plan[:-1] + b"x", "p1"), (comparison, "p1")):
        with pytest.raises(PlanMoved, match=f"plan {plan_id} cannot be read"):
            open_record(broken, keys=KEYS, plan_id=plan_id)
    for broken, plan_id in ((comparison, "p2"), (comparison[:-1] + b"x", "p1"), (plan, "p1")):
        with pytest.raises(PlanMoved, match=f"plan {plan_id} cannot be read"):
            open_comparison(broken, plan, keys=KEYS, plan_id=plan_id)


def test_a_plan_of_a_newer_version_is_not_read():
    newer = seal_plan(record(version=3), Comparison(version=3), keys=KEYS, plan_id="p1")
    with pytest.raises(PlanMoved, match="written by a newer Pilothouse"):
        open_record(newer[0], keys=KEYS, plan_id="p1")
    with pytest.raises(PlanMoved, match="written by a newer Pilothouse"):
        open_comparison(newer[1], newer[0], keys=KEYS, plan_id="p1")


def test_a_plan_that_is_all_in_one_part_is_read_as_it_was_meant():
    golden: list[dict[str, str]] = json.loads((Path(__file__).parent / "data" / "sealed_plans.json").read_text())
    keys = MasterKeys({b"gold": bytes(range(32))})
    for one in golden:
        sealed = base64.b64decode(one["record"])
        opened = open_record(sealed, keys=keys, plan_id=one["plan"])
        assert (opened.digest(), opened.base) == (one["digest"], Base(revision=2, uid="u", version="7"))
        found = open_comparison(None, sealed, keys=keys, plan_id=one["plan"])
        assert (found.base, found.sources, found.warnings) == (COMPARISON.base, COMPARISON.sources, ["a warning"])
        assert [(live.name, live.live, live.conflicts) for live in found.live] == [("a", {"data": {"text": "w"}}, ())]


def conflicts(*found: tuple[str, str], **changes: Any) -> list[str]:
    method = changes.pop("apply_method", "ssa")
    live = LiveChange("v1", "ConfigMap", "shop", "a", conflicts=tuple(FieldConflict(*one) for one in found))
    return list(describe_conflicts(record(**changes), [live], apply_method=method))


def test_a_conflict_names_object_field_manager_and_what_to_do():
    (one,) = conflicts((".data.text", "kubectl-edit"))
    assert one == (
        "ConfigMap 'a': field .data.text is managed by 'kubectl-edit', so that Helm would fail there; set "
        "options.force_conflicts to take over what others manage, or leave it out of the chart"
    )
    (many,) = conflicts(*((f".data.f{number}", "hand") for number in range(7)))
    assert many.startswith(
        "ConfigMap 'a': fields .data.f0, .data.f1, .data.f2, .data.f3, .data.f4 and 2 more are managed by 'hand', so"
    )
    assert [text.split(", so")[0] for text in conflicts((".a", "one"), (".b", "two"), (".c", "one"))] == [
        "ConfigMap 'a': fields .a, .c are managed by 'one'",
        "ConfigMap 'a': field .b is managed by 'two'",
    ]


def test_a_conflict_that_is_forced_is_told_as_what_is_taken_over():
    forced = {**ORDER, "options": {"force_conflicts": True}}
    assert conflicts((".data.text", "kubectl-edit"), order=forced) == [
        "ConfigMap 'a': field .data.text is taken over from 'kubectl-edit' (force_conflicts)"
    ]


@pytest.mark.parametrize(
    ("changes", "is_conflict"),
    [
        ({"apply_method": "ssa"}, True),
        ({"apply_method": "csa"}, False),
        ({"apply_method": ""}, False),
        ({"action": Action.ROLLBACK}, False),
        ({"action": Action.INSTALL}, False),
    ],
)
def test_fields_that_the_client_side_helm_has_are_handed_over(changes: dict[str, Any], *, is_conflict: bool):
    assert bool(conflicts((".data.text", "helm"), **changes)) == is_conflict


def test_the_operation_has_the_planned_texts_and_the_base():
    request = record().as_request("p1")
    assert request.plan_id == "p1"
    assert isinstance(request.order, UpgradeCommand)
    assert request.order.planned is not None
    release = request.order.planned.as_release(5)
    assert (release.revision, release.manifest, release.notes) == (5, record().manifest, "Hello.")
    assert [dataclasses.astuple(hook) for hook in release.hooks] == [("web/templates/hook.yaml", "kind: Job\n")]
    assert (request.order.planned.base_revision, request.order.planned.base_version) == (2, "7")


def test_hooks_are_in_the_order_in_which_they_run():
    hooks = [
        StoredHook(name="after", events=["post-upgrade"], weight=-9),
        StoredHook(name="b", events=["pre-upgrade"], weight=1),
        StoredHook(name="a", events=["pre-upgrade", "test"], weight=1),
        StoredHook(name="first", events=["pre-upgrade"], weight=-1),
        StoredHook(name="test", events=["test"]),
    ]
    assert [hook.name for hook in hooks_to_run(record(hooks=hooks))] == ["first", "a", "b", "after"]
    assert hooks_to_run(record(hooks=hooks, order={**ORDER, "disable_hooks": True})) == []


def test_a_value_comes_from_the_last_source_that_has_it():
    values = {"a": {"b": 1, "c": [1, 2], "d/e": {}}, "f": "x", "g": None}
    sources = [Source("previous", {"a": {"b": 2, "c": [1]}}), Source("mine", {"a": {"b": 1}, "g": None})]
    found = {one.path: one.origin for one in find_origins(values, [(one.name, one.values) for one in sources])}
    assert found == {"/a/b": "mine", "/a/c": "previous", "/a/d~1e": "chart", "/f": "chart", "/g": "mine"}


def noted(**changes: Any) -> Comparison:
    live = [
        LiveChange("v1", "Service", "shop", "a", problem="an apply would be refused: no", refused=True),
        LiveChange("v1", "Secret", "shop", "b", problem="left out: too large"),
        LiveChange("v1", "Pod", "shop", "c", live={}, conflicts=(FieldConflict(".a", "hand"),)),
    ]
    comparison, planned = Comparison(live=live), record(manifest="", **changes)
    note_warnings(planned, comparison, parsed={}, archive=b"", limits=ChartLimits(), creates_namespace=True)
    note_conflicts(planned, comparison, apply_method="ssa")
    return comparison


def test_what_the_cluster_refused_and_what_was_chosen_is_told_apart_from_what_is_lost():
    found = noted(order={**ORDER, "options": {"force_conflicts": True, "force_replace": True}})
    refused, too_large = "Service 'a': an apply would be refused: no", "Secret 'b': left out: too large"
    taken = "Pod 'c': field .a is taken over from 'hand' (force_conflicts)"
    assert found.refusals == [refused]
    assert found.chosen == ["namespace 'shop' will be created", taken]
    assert found.warnings == [found.chosen[0], refused, too_large, "Pod 'c' is replaced (force_replace)", taken]
    assert noted().chosen == ["namespace 'shop' will be created"]

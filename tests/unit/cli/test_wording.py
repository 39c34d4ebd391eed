"""Texts of the server as the command line prints them: with flags, not with the API's names."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pilothouse.cli import COMMANDS
from pilothouse.cli.groups import load_command
from pilothouse.cli.plans import plan_lines
from pilothouse.cli.wording import _UNMISTAKABLE, FORCE_HINT, reword
from pilothouse.cli.writes import failure_of
from pilothouse.services.releases.commands import HelmOptions
from pilothouse.services.releases.locks import describe_lock, running_error

ID = "1b4e28ba-2fa1-4d5e-9f3c-7a0c5b9e1d20"
RUNNING = SimpleNamespace(action="upgrade", release_name="web", state="running", id=ID)
HINT = f"; 'pilothouse operation follow {ID}' shows it, 'pilothouse operation cancel {ID}' ends it"
NO_TEXT = ".annotations.x: expected string, got &value.valueUnstructured{Value:9739}"
UNDECODED = (
    'decode "": json: cannot unmarshal number into Go struct field ObjectMeta.metadata.annotations of type string'
)
WRONG_YAML = "YAML parse error on a/templates/b.yaml: line 2"
CONFLICT = 'conflict occurred while applying object a/b v1, Kind=C: Apply failed with 2 conflicts: conflicts with "x":'
PLAN: dict[str, Any] = {
    "action": "upgrade",
    "namespace": "n",
    "name": "web",
    "cluster_name": "c",
    "chart_name": "",
    "base_revision": 1,
    "deployed_revision": 1,
    "summary": {"added": 0, "changed": 0, "removed": 0, "unchanged": 0},
    "objects": [],
    "hooks": [],
    "warnings": ["it is taken over (force_conflicts)"],
    "refusals": [],
    "findings": ["set options.force_conflicts to take it over"],
}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("set options.force_conflicts to take over", "set --force-conflicts to take over"),
        ("fail there (without force_conflicts)", "fail there (without --force-conflicts)"),
        ("options: force_conflicts and force_replace cannot", "options: --force-conflicts and --force-replace cannot"),
        ("options.timeout_seconds: too long", "--timeout: too long"),
        ("options.labels: x is", "--labels: x is"),
        ("at '/force_conflicts': got string", "at '/force_conflicts': got string"),
        ("ConfigMap 'a.force_replace'", "ConfigMap 'a.force_replace'"),
        ("parameters.create_namespace", "parameters.create_namespace"),
        ("or set replace to put this one in its place", "or add --replace to put this one in its place"),
        ('upload it with parameters {"override": true} to', "upload it with --override to"),
        ('(parameters {"skip_lint": true} stores it)', "(--skip-lint stores it)"),
        ("it was set replaced", "it was set replaced"),
        ("revision: release 'web' has no revision 9", "REVISION: release 'web' has no revision 9"),
        (
            "revision: release 'a' has no revision 9; its history lists the existing revisions",
            "REVISION: release 'a' has no revision 9; 'pilothouse history NAME' lists those that it has",
        ),
        (
            "it was synchronised at 1; synchronise it for newer ones",
            "it was synchronised at 1; 'pilothouse source sync NAME' asks it for newer ones",
        ),
        (
            "remove it, or give it Helm's label and annotations to have it adopted",
            "remove it, or give it Helm's label and annotations, or add --take-ownership, to have it adopted",
        ),
        (
            "a.yaml: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}",
            "a.yaml: it must hold names with values, and holds one array",
        ),
        ("scope.project: 'nope' is not", "--project: 'nope' is not"),
        ("filters[0]: 'foo' is neither", "--filter: 'foo' is neither"),
        ("chart.version: no version", "--version: no version"),
        ("chart.name: source 'team' has no chart", "CHART: source 'team' has no chart"),
        ("values[0] (--set): key a has no value", "--set: key a has no value"),
        ("(set by values[1] (prod.yaml), line 2)", "(set by prod.yaml, line 2)"),
        (UNDECODED, f"{UNDECODED}; --set-string, or quotes in a file of values, make a text of it"),
        (NO_TEXT, f"{NO_TEXT}; --set-string, or quotes in a file of values, make a text of it"),
        (
            WRONG_YAML,
            f"{WRONG_YAML}; 'pilothouse template CHART --debug' with the same values prints what was rendered",
        ),
    ],
)
def test_options_of_the_api_are_told_as_flags(text: str, told: str):
    assert reword(text) == told


def test_each_option_has_the_flag_that_it_is_told_as():
    flags = {
        flag
        for name in ("install", "upgrade")
        for one in load_command(name, COMMANDS[name]).params
        for flag in one.opts
    }

    assert {reword(f"options.{name}") for name in (*_UNMISTAKABLE, *vars(HelmOptions()))} <= flags


@pytest.mark.parametrize(
    ("refusal", "ending"),
    [
        (
            running_error(cast("Any", RUNNING)),
            HINT,
        ),
        (f"install of web failed: (operation {ID}) went on", "went on"),
    ],
)
def test_an_operation_at_work_is_told_with_what_may_be_typed(refusal: object, ending: str):
    assert reword(str(refusal)).endswith(ending)


def test_a_lock_of_another_program_is_told_with_the_command_that_ends_it():
    stored = cast("Any", SimpleNamespace(revision=3, status="pending-upgrade", last_deployed=datetime.now(UTC)))

    told = reword(describe_lock(stored, {}, cluster_id="0a1b-c"))

    assert told.endswith("; unlock: pilothouse release unlock NAME --reason TEXT if its writer is dead")


def test_a_plan_names_flags():
    assert list(plan_lines(PLAN))[2:] == [
        "WARNING: it is taken over (--force-conflicts)",
        "CANNOT BE APPLIED: set --force-conflicts to take it over",
    ]


REFUSED = 'Deployment.apps "web" is invalid: Required value'
OBJECT: dict[str, Any] = {
    "kind": "Deployment", "namespace": "n", "name": "web", "change": "unchanged", "fields": [], "problem": "",
    "live_change": "changed", "live_fields": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("revisions", "objects", "told"),
    [
        ((2, 2), [], ""),
        ((3, 2), [], " against revision 2"),
        ((3, 2), [OBJECT, OBJECT], " against revision 2, !2 against the cluster"),
        ((2, 2), [OBJECT], " against revision 2, !1 against the cluster"),
        ((0, 0), [OBJECT], ", !1 against the cluster"),
    ],
)
def test_a_plan_says_what_it_counts_against(revisions: tuple[int, int], objects: list[dict[str, Any]], told: str):
    newest, deployed = revisions
    plan = {**PLAN, "base_revision": newest, "deployed_revision": deployed, "objects": objects}

    assert list(plan_lines(plan))[1] == f"+0 ~0 -0 =0{told}"


@pytest.mark.parametrize("change", ["changed", "unchanged"])
def test_a_plan_tells_a_refusal_once(change: str):
    refused = {**OBJECT, "change": change, "live_change": "unknown", "problem": REFUSED}
    warning = f"Deployment 'web': {REFUSED}"
    plan = {**PLAN, "objects": [refused], "warnings": [warning], "refusals": [warning], "findings": []}

    for shown in (plan, {**plan, "warnings": [], "refusals": []}):
        assert "\n".join(plan_lines(shown)).count(REFUSED) == 1
    assert f"! in the cluster Deployment web: unknown: {REFUSED}" in list(plan_lines({**plan, "warnings": []}))


@pytest.mark.parametrize(("text", "hint"), [(CONFLICT, f"{CONFLICT}; {FORCE_HINT}"), ("timed out", "timed out")])
def test_a_failure_at_fields_of_others_names_the_flag(text: str, hint: str):
    failed = failure_of({"state": "failed", "action": "upgrade", "release": "web", "text": text, "last_error": ""})

    assert str(failed) == f"upgrade of web failed: {hint}"


@pytest.mark.parametrize("name", ["drift", "rollback", "upgrade", "plan"])
def test_the_help_names_the_flag(name: str):
    command = load_command(name, COMMANDS[name])
    flags = {flag for one in command.params for flag in one.opts}

    assert "--force-conflicts" in (command.help or "") or "--force-conflicts" in flags


def test_a_plan_of_an_uninstall_goes_to_no_chart():
    plan = {**PLAN, "action": "uninstall", "chart_name": "shop", "chart_version": "0.1.0", "base_revision": 3}

    assert next(plan_lines(plan)) == "uninstall of n/web in c, revision 3"
    assert next(plan_lines({**plan, "action": "upgrade"})) == "upgrade of n/web in c to shop-0.1.0, over revision 3"


def test_the_command_that_unlocks_names_the_release_that_was_asked_for():
    stored = SimpleNamespace(revision=2, status="pending-upgrade", last_deployed=datetime(2026, 1, 1, tzinfo=UTC))
    path = "PUT /api/v1/clusters/a%20b/namespaces/shop/releases/web"

    told = reword(describe_lock(cast("Any", stored), {}, cluster_id="c"), about=path)

    assert "unlock: pilothouse release unlock web -n shop --cluster 'a b' --reason TEXT if its writer is dead" in told

"""A random walk through a release's life: after every step the API and helm tell the same.

Helm itself takes steps in between, as a colleague at a terminal would. The steps of a failing walk are printed by
hypothesis, with what replays it.
"""

import json
import operator
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import httpx2
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.charts import build_chart, config_map_template
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.workloads import hook_template

STEPS, STEPS_OF_A_WALK = 120, 30
STATUS = {
    "deployed": "DEPLOYED",
    "superseded": "SUPERSEDED",
    "failed": "FAILED",
    "uninstalled": "DELETED",
    "pending-install": "PENDING_INSTALL",
    "pending-upgrade": "PENDING_UPGRADE",
    "pending-rollback": "PENDING_ROLLBACK",
    "uninstalling": "DELETING",
}

texts = st.sampled_from(["", "plain", "ünïcode", "0", "a: b"])
values = st.fixed_dictionaries(
    {}, optional={"text": texts, "deep": st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=2)}
)
flags = st.fixed_dictionaries(
    {},
    optional={name: st.booleans() for name in ("no_hooks", "include_hooks", "replace", "reset_values", "recreate")},
)
versions = st.sampled_from(["1.0.0", "2.0.0"])
#: Options of the native API that leave a release as helm's own flags do.
shared_options = {
    "wait": st.sampled_from(["none", "hooks", "ready", "jobs"]),
    "timeout_seconds": st.sampled_from([60, 300]),
    "no_hooks": st.booleans(),
}
forced = st.sampled_from([{}, {"force_conflicts": True}, {"force_replace": True}])  # together they are refused
options_of_a_revision = {**shared_options, "history_max": st.sampled_from([0, 3, 10]), "checks": st.just(["test"])}
options_of_ours = st.builds(
    operator.or_,
    forced,
    st.fixed_dictionaries(
        {},
        optional={
            **options_of_a_revision,
            "description": texts,
            "labels": st.dictionaries(st.sampled_from("ab"), st.sampled_from(["x", "y", None]), max_size=2),
            "crds": st.sampled_from(["skip", "create", "replace"]),
            "take_ownership": st.booleans(),
            "skip_schema_validation": st.booleans(),
            "create_namespace": st.booleans(),
            "rollback_on_failure": st.booleans(),
            "cleanup_on_fail": st.booleans(),
        },
    ),
)
options_of_a_rollback = st.builds(operator.or_, forced, st.fixed_dictionaries({}, optional=options_of_a_revision))
options_of_an_uninstall = st.fixed_dictionaries(
    {},
    optional={
        **shared_options,
        "cascade": st.sampled_from(["background", "foreground", "orphan"]),
        "description": texts,
    },
)
#: One for each way in which a layer can be written.
more_layers = st.lists(
    st.sampled_from(
        [
            {"yaml": "text: of a file\n"},
            {"set": "deep.a=3"},
            {"set_string": "text=7"},
            {"set_json": 'deep={"b": 2}'},
            {"set_literal": "text=a,b"},
        ]
    ),
    max_size=2,
)
modes = st.sampled_from(["replace", "reuse", "reset_then_reuse"])
PASSING, FAILING = {"set": "fate="}, {"set": "fate=fail"}


class Walk(RuleBasedStateMachine):
    """One release, and what has to be true of it at every moment."""

    server: ClassVar[RunningServer]
    helm: ClassVar[HelmCommand]
    namespace: ClassVar[str]
    charts: ClassVar[dict[str, str]]
    files: ClassVar[dict[str, Path]]
    steps: ClassVar[int] = 0

    release: OneRelease
    #: The same, in the native API.
    ours: OwnRelease

    @initialize()
    def begin(self) -> None:
        name = f"walk-{uuid.uuid4().hex[:8]}"
        self.release = OneRelease(self.server, self.namespace, name, self.helm)
        self.ours = OwnRelease(self.server, self.namespace, name, self.helm)
        self.there = False
        self.last: list[dict[str, Any]] = []

    def is_only_history(self) -> bool:
        """Whether the release was uninstalled before this step, and its history kept."""
        return bool(self.last) and self.last[-1]["status"] == "uninstalled"

    def told(self) -> list[dict[str, Any]]:
        """History as helm tells it; empty without a release."""
        self.last = self.release.history() if self.there else []
        return self.last

    @rule(version=versions, own=values, options=flags)
    def create(self, version: str, own: dict[str, Any], options: dict[str, bool]) -> None:
        newest = self.told()[-1]["status"] if self.there else ""
        answer = self.release.create(self.charts[version], values=own, parameters=options)
        if self.there and not (options.get("replace") and newest in {"failed", "uninstalled"}):
            assert answer.status_code == 409, answer.text
            return
        assert answer.status_code == 201, answer.text
        assert self.release.settled()["status"] == "DEPLOYED"
        self.there = True

    @rule(version=versions, own=values, options=flags)
    def upgrade(self, version: str, own: dict[str, Any], options: dict[str, bool]) -> None:
        kept = self.is_only_history()
        answer = self.release.update(chart_id=self.charts[version], values=own, parameters=options)
        assert answer.status_code == (400 if kept else 200 if self.there else 404), answer.text
        if answer.status_code == 200:
            assert self.release.settled()["status"] == "DEPLOYED"

    @rule(version=versions, own=values, more=more_layers, mode=modes, options=options_of_ours)
    def make_it_so(
        self, version: str, own: dict[str, Any], more: list[dict[str, str]], mode: str, options: dict[str, Any]
    ) -> None:
        self.ours.deployed(self.charts[version], {"object": own}, *more, PASSING, mode=mode, **options)
        self.there = True

    @rule(version=versions, own=values, more=more_layers, mode=modes, options=options_of_ours)
    def plan_and_apply(
        self, version: str, own: dict[str, Any], more: list[dict[str, str]], mode: str, options: dict[str, Any]
    ) -> None:
        layers = [{"object": own}, *more, PASSING]
        chart = {"id": self.charts[version]}
        deploy = {"chart": chart, "values": layers, "values_mode": mode, "options": options}
        plan = self.apply(self.planned({"deploy": deploy}))
        self.there = True
        assert self.ours.manifest() == plan["manifest"]

    def planned(self, change: dict[str, Any]) -> httpx2.Response:
        """Plan a change, which must leave the release as it is."""
        before = self.told()
        answer = self.ours.send("POST", "/plan", change)
        assert self.told() == before
        return answer

    def apply(self, planned: httpx2.Response, state: str = "succeeded") -> dict[str, Any]:
        """Apply the plan in an answer, and return it."""
        assert planned.status_code == 201, planned.text
        plan: dict[str, Any] = planned.json()
        path, body = f"/api/v1/plans/{plan['id']}/apply", {"digest": plan["digest"]}
        self.ours.ended(self.server.send("POST", path, json_body=body, headers={"Prefer": "wait=60"}), state)
        return plan

    @rule(version=versions, own=values)
    def make_it_so_and_undo_that_as_its_tests_fail(self, version: str, own: dict[str, Any]) -> None:
        before = [] if self.is_only_history() else self.last
        options: dict[str, Any] = {"checks": ["test"], "rollback_on_failure": True}
        answer = self.ours.put(self.charts[version], {"object": own}, FAILING, **options)
        assert "but its tests failed" in self.ours.ended(answer, "failed")["text"]
        deployed = [one for one in before if one["status"] in {"deployed", "superseded"}]
        if not before:  # an install is uninstalled
            self.there = False
            self.release.gone()
        elif deployed:
            assert [one["status"] for one in self.told()][-1] == "deployed"

    @precondition(lambda self: self.there and not self.is_only_history())
    @rule(only=st.booleans())
    def run_its_tests(self, *, only: bool) -> None:
        before = self.last
        filters = [f"name={self.release.name}-test"] if only else []
        fails = self.release.values().get("fate") == "fail"
        self.ours.ended(self.ours.send("POST", "/test", {"filters": filters}), "failed" if fails else "succeeded")
        assert self.told() == before

    @precondition(lambda self: self.there and not self.is_only_history())
    @rule(options=options_of_an_uninstall, first_planned=st.booleans())
    def delete_and_keep_the_history(self, *, options: dict[str, Any], first_planned: bool) -> None:
        body = {"options": {**options, "keep_history": True}}
        if first_planned:
            self.apply(self.planned({"delete": body}))
        else:
            self.ours.ended(self.ours.send("DELETE", "", body))
        assert self.told()[-1]["status"] == "uninstalled"

    @precondition(lambda self: self.there)
    @rule(options=options_of_a_rollback, first_planned=st.booleans())
    def roll_back_to_what_was_deployed(self, *, options: dict[str, Any], first_planned: bool) -> None:
        history = self.last
        good = [one for one in history if one["status"] in {"deployed", "superseded"}]
        before = [one["revision"] for one in good if one["revision"] < history[-1]["revision"]]
        body = {"options": options}
        answer = self.planned({"rollback": body}) if first_planned else self.ours.send("POST", "/rollback", body)
        if not before:
            assert answer.status_code == 404, answer.text
            return
        goal = self.helm("get", "values", self.release.name, "-n", self.namespace, "--revision", str(before[-1]))
        state = "failed" if "checks" in options and "fate: fail" in goal else "succeeded"
        if first_planned:
            self.apply(answer, state)
        else:
            self.ours.ended(answer, state)
        assert self.told()[-1]["description"] == f"Rollback to {before[-1]}"

    @precondition(lambda self: self.there and not self.is_only_history())
    @rule()
    def upgrade_that_fails(self) -> None:
        assert self.release.update(chart_id=self.charts["1.0.0"], values={"suffix": "Not_A_Name"}).status_code == 200
        assert self.release.settled()["status"] == "FAILED"

    @rule(back=st.integers(0, 3))
    def roll_back(self, back: int) -> None:
        history = self.told()
        newest = history[-1]["revision"] if history else 0
        revision = max(0, newest - back) if back else 0  # 0: the one before the newest
        wanted = revision or newest - 1
        answer = self.release.rollback(revision)
        kept = {one["revision"] for one in history}
        assert answer.status_code == (200 if wanted in kept else 404), (answer.text, history)
        if answer.status_code == 200:
            self.release.settled()

    @rule(version=versions, own=values)
    def dry_run(self, version: str, own: dict[str, Any]) -> None:
        before = self.told()
        chart = self.charts[version]
        self.release.create(chart, values=own, parameters={"dry_run": True})
        self.release.update(chart_id=chart, values=own, parameters={"dry_run": True})
        assert self.told() == before

    @rule()
    def delete(self) -> None:
        answer = self.release.delete()
        assert answer.status_code == (200 if self.there else 404), answer.text
        if self.there:
            self.release.gone()
            self.there = False

    @rule(version=versions, text=texts)
    def somebody_uses_helm(self, version: str, text: str) -> None:
        words = ["upgrade", "--install", self.release.name, str(self.files[version]), "-n", self.namespace]
        self.helm(*words, "--set-string", f"text={text}", "--history-max", "10")
        self.there = True
        self.await_index()

    @precondition(lambda self: self.there)
    @rule()
    def somebody_uninstalls_with_helm(self) -> None:
        self.helm("uninstall", self.release.name, "-n", self.namespace)
        self.there = False
        self.release.gone()

    def await_index(self) -> list[dict[str, Any]]:
        """Return the history as the API tells it, as soon as it is the one that helm tells.

        What helm wrote, and which old revisions were pruned, is seen within a moment; what we wrote is seen at once.
        """
        until = time.monotonic() + 20
        told = [(one["revision"], STATUS[one["status"]]) for one in reversed(self.told())]
        while True:
            answer = self.release.server.send("GET", f"{self.release.path}/history")
            history: list[dict[str, Any]] = answer.json() if answer.status_code == 200 else []
            shown = [(one["version"], one["status"]) for one in history]
            if shown == told:
                return history
            assert time.monotonic() < until, (shown, told)
            time.sleep(0.05)

    @invariant()
    def the_api_and_helm_agree(self) -> None:
        if not hasattr(self, "release"):
            return
        Walk.steps += 1
        answer = self.release.server.send("GET", f"{self.release.path}/history")
        if not self.there:
            assert answer.status_code == 404, answer.text
            return
        told = list(reversed(self.told()))
        newest = answer.json()[0]
        assert (newest["version"], newest["status"]) == (told[0]["revision"], STATUS[told[0]["status"]])
        history = self.await_index()
        assert [f"{one['chart_name']}-{one['chart_version']}" for one in history] == [one["chart"] for one in told]
        shown = self.release.server.show(self.namespace, self.release.name).json()
        assert json.loads(shown["values"]) == self.release.values()
        failed_before_helm = shown["status"] == "FAILED" and told[0]["status"] != "failed"
        if not failed_before_helm:
            assert {**shown, "resources": ""} == history[0]


def test_the_api_and_helm_agree_after_every_step_of_a_random_walk(
    server: RunningServer, make_namespace: Callable[[], str], helm_cli: HelmCommand, tmp_path: Path
):
    Walk.server, Walk.helm, Walk.namespace = server, staticmethod(helm_cli), make_namespace()
    Walk.charts, Walk.files = {}, {}
    for version in ("1.0.0", "2.0.0"):
        archive = build_chart(
            "walked",
            version,
            templates={
                "config.yaml": config_map_template(suffix="{{ .Values.suffix }}"),
                "test.yaml": hook_template(
                    "test", fate="'{{ .Values.fate }}'", policy="hook-succeeded,hook-failed", kind="Pod", name="test"
                ),
            },
            values={"text": version, "suffix": "config", "deep": {"a": 1}, "fate": ""},
        )
        answer = server.upload(archive, parameters='{"override": true}')
        assert answer.status_code == 201, answer.text
        Walk.charts[version] = answer.json()["id"]
        Walk.files[version] = tmp_path / f"walked-{version}.tgz"
        Walk.files[version].write_bytes(archive)
    wanted = int(os.environ.get("PILOTHOUSE_TEST_STEPS") or STEPS)
    Walk.steps = 0
    while Walk.steps < wanted:
        run_state_machine_as_test(
            Walk,
            settings=settings(
                max_examples=2,
                stateful_step_count=STEPS_OF_A_WALK,
                deadline=None,
                phases=[Phase.generate],  # a walk takes a minute: it is told as it was, and not shortened
                database=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )

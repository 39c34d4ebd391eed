"""A random walk through a release's life: after every step the API and helm tell the same.

Helm itself takes steps in between, as a colleague at a terminal would. The steps of a failing walk are printed by
hypothesis, with what replays it.
"""

import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

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
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer

STEPS, STEPS_OF_A_WALK = 200, 30
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


class Walk(RuleBasedStateMachine):
    """One release, and what has to be true of it at every moment."""

    server: ClassVar[RunningServer]
    helm: ClassVar[HelmCommand]
    namespace: ClassVar[str]
    charts: ClassVar[dict[str, str]]
    files: ClassVar[dict[str, Path]]
    steps: ClassVar[int] = 0

    release: OneRelease

    @initialize()
    def begin(self) -> None:
        name = f"walk-{uuid.uuid4().hex[:8]}"
        self.release = OneRelease(self.server, self.namespace, name, self.helm)
        self.there = False

    def told(self) -> list[dict[str, Any]]:
        """History as helm tells it; empty without a release."""
        return self.release.history() if self.there else []

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
        answer = self.release.update(chart_id=self.charts[version], values=own, parameters=options)
        assert answer.status_code == (200 if self.there else 404), answer.text
        if self.there:
            assert self.release.settled()["status"] == "DEPLOYED"

    @precondition(lambda self: self.there)
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
        """The history as the API tells it, as soon as it is the one that helm tells.

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
            templates={"config.yaml": config_map_template(suffix="{{ .Values.suffix }}")},
            values={"text": version, "suffix": "config", "deep": {"a": 1}},
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

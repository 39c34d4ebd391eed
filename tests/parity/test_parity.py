"""The API and ``helm`` do the same with the same chart: stored release, live objects and end, after every step.

One namespace belongs to the API and one to ``helm``; who goes first changes from chart to chart. ``make parity N=300``
goes on for longer. A failing chart is printed by hypothesis with what replays it.
"""

import base64
import json
import os
import ssl
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.parity.generated_charts import Generated, crd, generated_charts
from tests.parity.state import Namespace, differences
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer

EXAMPLES = int(os.environ.get("PILOTHOUSE_TEST_CHARTS") or 30)
GROUP = f"parity-{uuid.uuid4().hex[:8]}.example.org"


@dataclass
class Both:
    """The same release, by the API in one namespace and by ``helm`` in the other."""

    api: OneRelease
    ours: Namespace
    theirs: Namespace
    helm: HelmCommand
    folder: Path

    def by_helm(self, *arguments: str) -> bool:
        """Whether helm says that it succeeded."""
        try:
            self.helm(*arguments, self.api.name, *self._rest(arguments[0]), "-n", self.theirs.name)
        except subprocess.CalledProcessError:
            return False
        return True

    def _rest(self, action: str) -> list[str]:
        version = {"install": "first", "upgrade": "second"}.get(action)
        if version is None:
            return ["1"] if action == "rollback" else []
        return [str(self.folder / f"{version}.tgz"), "-f", str(self.folder / f"{version}.yaml")]

    def by_api(self, answer: httpx2.Response) -> bool:
        """Whether the release is deployed in the end."""
        assert answer.status_code in {200, 201}, answer.text
        return bool(self.api.settled()["status"] == "DEPLOYED")

    def compare(self, step: str) -> None:
        """Raise AssertionError with what differs."""
        name = self.api.name
        stored = differences(self.ours.revisions(name), self.theirs.revisions(name))
        assert not stored, f"stored releases after {step}"
        objects = differences(self.ours.objects(), self.theirs.objects())
        assert not objects, f"objects after {step}"


@pytest.fixture(scope="module")
def administrator(kubeconfig: str) -> Iterator[httpx2.Client]:
    """Yield a client of the API server; ``GROUP`` is defined while it is open."""
    config = yaml.safe_load(kubeconfig)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    headers = {"Authorization": f"Bearer {user['token']}"}
    with httpx2.Client(base_url=cluster["server"], verify=context, headers=headers, trust_env=False) as http:
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        http.post(definitions, json=yaml.safe_load(crd(GROUP))).raise_for_status()
        while http.get(f"/apis/{GROUP}/v1/things").status_code != 200:
            pass
        yield http
        http.delete(f"{definitions}/things.{GROUP}").raise_for_status()


def upload(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive, parameters='{"override": true, "skip_lint": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def namespaces(make_namespace: Callable[[], str]) -> tuple[str, str]:
    return make_namespace(), make_namespace()


def test_the_api_and_helm_do_the_same_with_any_chart(
    server: RunningServer,
    namespaces: tuple[str, str],
    helm_cli: HelmCommand,
    administrator: httpx2.Client,
    tmp_path: Path,
):
    ours, theirs = (Namespace(administrator, name, group=GROUP) for name in namespaces)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],  # a chart takes seconds: it is told as it was, and not shortened
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(generated_charts(group=GROUP), st.booleans(), st.sampled_from([(), ("reset_values",), ("replace",)]))
    def same(chart: Generated, api_first: bool, flags: tuple[str, ...]) -> None:  # noqa: FBT001
        name = f"p-{uuid.uuid4().hex[:8]}"
        both = Both(OneRelease(server, ours.name, name, helm_cli), ours, theirs, helm_cli, tmp_path)
        for version, archive, values in (
            ("first", chart.first, chart.install_values),
            ("second", chart.second, chart.upgrade_values),
        ):
            (tmp_path / f"{version}.tgz").write_bytes(archive)
            (tmp_path / f"{version}.yaml").write_text(json.dumps(values))
        first, second = upload(server, chart.first), upload(server, chart.second)
        hooks: dict[str, Any] = {"include_hooks": True}
        steps: list[tuple[str, Callable[[], bool], Callable[[], bool]]] = [
            (
                "install",
                lambda: both.by_api(both.api.create(first, values=chart.install_values)),
                lambda: both.by_helm("install"),
            ),
            (
                "upgrade",
                lambda: both.by_api(
                    both.api.update(
                        chart_id=second,
                        values=chart.upgrade_values,
                        parameters={**hooks, **dict.fromkeys(flags, True)},
                    )
                ),
                lambda: both.by_helm("upgrade", *HELM_FLAGS[flags]),
            ),
            (
                "rollback",
                lambda: both.by_api(both.api.rollback(1, **hooks)),
                lambda: both.by_helm("rollback"),
            ),
        ]
        for step, by_api, by_helm in steps:
            ends = [by_api(), by_helm()] if api_first else [by_helm(), by_api()]
            assert ends[0] == ends[1], f"the end of {step}: {both.api.show().text}"
            both.compare(step)
        assert both.api.delete().status_code == 200
        both.api.gone()
        assert both.by_helm("uninstall")
        both.compare("uninstall")

    same()


HELM_FLAGS: dict[tuple[str, ...], tuple[str, ...]] = {
    (): (),
    ("reset_values",): ("--reset-values",),
    ("replace",): ("--reuse-values",),
}

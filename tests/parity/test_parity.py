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

import httpx2
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.parity.generated_charts import Generated, crd, generated_charts
from tests.parity.state import Namespace, differences
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for

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
    gadgets: bool

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
        ours, theirs = (one.objects(gadgets=self.gadgets) for one in (self.ours, self.theirs))
        objects = differences(ours, theirs)
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


def forget_gadgets(http: httpx2.Client) -> None:
    """Remove what a chart has defined, so that the next one defines it, by the API or by helm; uninstalls keep it."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.{GROUP}"
    http.delete(path).raise_for_status()
    assert wait_for(lambda: http.get(path).status_code == 404)
    assert wait_for(lambda: http.get(f"/apis/{GROUP}/v1/gadgets").status_code == 404)


def upload(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive, parameters='{"override": true, "skip_lint": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def namespaces(make_namespace: Callable[[], str]) -> tuple[str, str]:
    return make_namespace(), make_namespace()


@pytest.mark.timeout(900)  # thirty charts, each of them eight times through a cluster that others use, too
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
    @given(generated_charts(group=GROUP), st.booleans(), options())
    def same(chart: Generated, api_first: bool, chosen: Options) -> None:  # noqa: FBT001
        name = f"p-{uuid.uuid4().hex[:8]}"
        both = Both(OneRelease(server, ours.name, name, helm_cli), ours, theirs, helm_cli, tmp_path, chart.brings_crd)
        for version, archive, values in (
            ("first", chart.first, chart.install_values),
            ("second", chart.second, chart.upgrade_values),
        ):
            (tmp_path / f"{version}.tgz").write_bytes(archive)
            (tmp_path / f"{version}.yaml").write_text(json.dumps(values))
        first, second = upload(server, chart.first), upload(server, chart.second)
        hooks = {step: {"include_hooks": step not in chosen.without_hooks} for step in ("upgrade", "rollback")}
        no_hooks = {step: ["--no-hooks"] if step in chosen.without_hooks else [] for step in STEPS}
        steps: list[tuple[str, Callable[[], bool], Callable[[], bool]]] = [
            (
                "install",
                lambda: both.by_api(
                    both.api.create(
                        first,
                        values=chart.install_values,
                        parameters={"no_hooks": "install" in chosen.without_hooks},
                    )
                ),
                lambda: both.by_helm("install", *no_hooks["install"]),
            ),
            (
                "upgrade",
                lambda: both.by_api(
                    both.api.update(
                        chart_id=second,
                        values=chart.upgrade_values,
                        parameters={**hooks["upgrade"], **dict.fromkeys(chosen.flags, True)},
                    )
                ),
                lambda: both.by_helm("upgrade", *HELM_FLAGS[chosen.flags], *no_hooks["upgrade"]),
            ),
            (
                "rollback",
                lambda: both.by_api(both.api.rollback(1, **hooks["rollback"])),
                lambda: both.by_helm("rollback", *no_hooks["rollback"]),
            ),
        ]
        for step, by_api, by_helm in steps:
            ends = [by_api(), by_helm()] if api_first else [by_helm(), by_api()]
            assert ends[0] == ends[1], f"the end of {step}: {both.api.show().text}"
            both.compare(step)
        assert both.api.delete().status_code == 200
        both.api.gone()
        # The API takes the hooks of the chart along if the operation that wrote the revision ran them.
        assert both.by_helm("uninstall", *no_hooks["rollback"])
        both.compare("uninstall")
        if chart.brings_crd:
            forget_gadgets(administrator)

    same()


STEPS = ("install", "upgrade", "rollback")


@dataclass(frozen=True)
class Options:
    """What is chosen besides chart and values: flags of the upgrade, and the steps that run no hooks."""

    flags: tuple[str, ...]
    without_hooks: frozenset[str]


def options() -> st.SearchStrategy[Options]:
    return st.builds(
        Options,
        st.sampled_from(list(HELM_FLAGS)),
        st.frozensets(st.sampled_from(STEPS), max_size=2),
    )


HELM_FLAGS: dict[tuple[str, ...], tuple[str, ...]] = {
    (): (),
    ("reset_values",): ("--reset-values",),
    ("replace",): ("--reuse-values",),
}

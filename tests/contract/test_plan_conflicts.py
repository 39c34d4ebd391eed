"""Fields that others manage, in plans: Helm fails there, or takes them over; helm itself is the judge of both."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.autoscaling_v1 import ScaleSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from tests.contract.test_policies import attach, statement
from tests.support.charts import build_chart, config_map_template
from tests.support.plans import Planned, uploaded
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.users import add_person
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

ARCHIVE = build_chart("conflicts", "1.0.0", templates={"map.yaml": config_map_template()}, values={"text": "one"})
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: scaled}}
  template:
    metadata: {labels: {app: scaled}}
    spec: {containers: [{name: web, image: "example.invalid/web:1"}]}
"""
FINDING = (
    "ConfigMap 'web-config': field .data.text is managed by 'another', so that Helm would fail there; set "
    "options.force_conflicts to take over what others manage, or leave it out of the chart"
)
TAKEN = "ConfigMap 'web-config': field .data.text is taken over from 'another' (force_conflicts)"
OTHERS = "ConfigMap 'web-config': it exists and is not the release's; the release would take it over"


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return uploaded(server, ARCHIVE)


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> Planned:
    return Planned(server, namespace, helm_cli)


@pytest.fixture
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    config = KubeConfig.from_file(kubernetes.kubeconfig)
    with Client(config=config, field_manager="another", trust_env=False) as client:
        yield client


def take(api: Client, release: Planned, text: str = "theirs") -> None:
    """Make another manager the owner of the ConfigMap's text."""
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"text": text}}
    where: dict[str, Any] = {"name": "web-config", "namespace": release.namespace}
    api.patch(ConfigMap, obj=theirs, patch_type=PatchType.APPLY, force=True, **where)


def text_of(api: Client, release: Planned) -> str:
    return str((api.get(ConfigMap, "web-config", namespace=release.namespace).data or {})["text"])


def test_a_field_that_somebody_else_manages_is_a_finding_where_helm_fails(
    release: Planned, chart: str, api: Client, tmp_path: Path
):
    release.applied(release.plan(chart))
    take(api, release)

    plan = release.plan(chart, {"set": "text=ours"})

    assert plan["findings"] == [FINDING]
    refused = release.apply(plan)
    assert_error(refused, 400, "CCE.01400001")
    assert FINDING in refused.json()["error_msg"]
    denied = add_person(release.server, "te_admin")
    attach(release.server, denied, statement("Deny", "pilothouse:values:read"))
    refused = release.apply(plan, denied.server)
    assert_error(refused, 400, "CCE.01400001", "cannot be applied: look at its findings")
    (tmp_path / "conflicts.tgz").write_bytes(ARCHIVE)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        release.helm("upgrade", "web", str(tmp_path / "conflicts.tgz"), "-n", release.namespace, "--set", "text=ours")
    assert 'conflict with "another"' in failed.value.stderr
    assert text_of(api, release) == "theirs"


def test_with_force_it_is_warned_of_and_taken_over(release: Planned, chart: str, api: Client):
    release.applied(release.plan(chart))
    take(api, release)

    plan = release.plan(chart, {"set": "text=ours"}, force_conflicts=True)

    assert (plan["findings"], plan["warnings"]) == ([], [TAKEN])
    release.applied(plan)
    assert text_of(api, release) == "ours"


def test_a_field_that_others_set_to_the_same_is_none(release: Planned, chart: str, api: Client):
    release.applied(release.plan(chart))
    take(api, release, "ours")

    plan = release.plan(chart, {"set": "text=ours"})

    assert (plan["findings"], plan["warnings"]) == ([], [])
    release.applied(plan)


def test_a_rollback_has_the_same_finding_and_its_own_options(release: Planned, chart: str, api: Client):
    release.applied(release.plan(chart))
    release.applied(release.plan(chart, {"set": "text=two"}))
    take(api, release)

    assert release.made(release.ask({"rollback": {"revision": 1}}))["findings"] == [FINDING]
    options = {"force_conflicts": True, "history_max": 2, "wait": "ready", "timeout_seconds": 60}
    forced = release.made(release.ask({"rollback": {"revision": 1, "options": options}}))

    assert (forced["findings"], forced["warnings"]) == ([], [TAKEN])
    release.applied(forced)
    assert text_of(api, release) == "one"
    assert [one["revision"] for one in release.history()] == [2, 3]


def test_fields_of_a_client_side_apply_are_none(release: Planned, chart: str, api: Client, tmp_path: Path):
    """Helm 3 wrote them in the name of helm, too, and Helm 4 hands them over first."""
    (tmp_path / "conflicts.tgz").write_bytes(ARCHIVE)
    release.helm("install", "web", str(tmp_path / "conflicts.tgz"), "-n", release.namespace, "--server-side=false")

    plan = release.plan(chart, {"set": "text=ours"})

    assert plan["findings"] == []
    release.applied(plan)
    assert text_of(api, release) == "ours"


def test_what_an_autoscaler_has_scaled_is_told_with_the_subresource(
    release: Planned, server: RunningServer, api: Client
):
    chart = uploaded(server, build_chart("scaled", "1.0.0", templates={"web.yaml": DEPLOYMENT}, values={"replicas": 0}))
    release.applied(release.plan(chart, wait="none"))
    metadata = ObjectMeta(name="web", namespace=release.namespace)
    api.replace(Deployment.Scale(metadata=metadata, spec=ScaleSpec(replicas=1)), "web")

    plan = release.plan(chart, {"set": "replicas=2"}, wait="none")

    (finding,) = plan["findings"]
    assert finding.startswith("Deployment 'web': field .spec.replicas is managed by 'another (subresource scale)', so")
    assert release.plan(chart, {"set": "replicas=1"}, wait="none")["findings"] == []


def test_whose_fields_an_object_of_others_has_is_not_told(release: Planned, chart: str, api: Client):
    """By guesses at what it holds, somebody who may only read releases would find that out."""
    metadata = ObjectMeta(name="web-config", namespace=release.namespace)
    api.create(ConfigMap(metadata=metadata, data={"text": "theirs"}))

    plans = [
        release.plan(chart, {"set": f"text={text}"}, take_ownership=True, force_conflicts=forced)
        for text in ("theirs", "ours")
        for forced in (False, True)
    ]

    assert [plan["findings"] for plan in plans] == [[]] * 4
    without_force = f"{OTHERS}, and fail at fields that others manage (without force_conflicts)"
    assert [plan["warnings"] for plan in plans] == [[without_force], [OTHERS]] * 2
    release.applied(plans[-1])
    assert text_of(api, release) == "ours"

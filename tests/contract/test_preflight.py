"""What would fail in the middle of a release is refused before anything is written, and works once it is put right."""

import base64
import json
import os
import uuid
from collections.abc import Iterator

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.core_v1 import ConfigMap, Secret

from tests.support.accounts import LimitedAccount, limited_account
from tests.support.charts import build_chart, config_map_chart, config_map_template, hook_job_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID = (400, "CCE.01400001")
CONFIG = config_map_template()
BUDGET = """\
apiVersion: policy/{{ if .Values.old }}v1beta1{{ else }}v1{{ end }}
kind: PodDisruptionBudget
metadata:
  name: {{ .Release.Name }}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: web}}
"""
CONFIG_MAPS = PolicyRule(apiGroups=[""], resources=["configmaps"], verbs=["get", "create", "patch"])
JOBS = PolicyRule(apiGroups=["batch"], resources=["jobs"], verbs=["get", "list", "watch", "create", "patch", "delete"])


@pytest.fixture(scope="module")
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    yield client
    client.close()


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "web", helm_cli)


def upload(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive)
    assert answer.status_code == 201, answer.text
    chart_id: str = answer.json()["id"]
    return chart_id


def chart(**templates: str) -> bytes:
    """Return a new chart of these templates, named by their words."""
    files = {f"{name}.yaml": text for name, text in templates.items()}
    return build_chart(f"pre-{uuid.uuid4().hex[:8]}", templates=files, values={"text": "x", "old": False})


def refused(release: OneRelease, chart_id: str, **body: object) -> str:
    """Return the reason why the install failed, of which nothing is left but that."""
    answer = release.create(chart_id, **body)
    assert answer.status_code == 201, answer.text
    failed = release.settled()
    assert (failed["status"], failed["version"]) == ("FAILED", 1), failed
    assert json.loads(release.helm("list", "-n", release.namespace, "-o", "json")) == []
    text: str = failed["status_description"]
    return text


def deploys(release: OneRelease, chart_id: str, **body: object) -> None:
    answer = release.create(chart_id, **body)
    assert answer.status_code == 201, answer.text
    assert release.settled()["status"] == "DEPLOYED", release.settled()


def config_maps(api: Client, namespace: str) -> list[str]:
    found = (one.metadata.name for one in api.list(ConfigMap, namespace=namespace) if one.metadata)
    return [name for name in found if name and name != "kube-root-ca.crt"]


def secrets(api: Client, namespace: str) -> list[Secret]:
    return list(api.list(Secret, namespace=namespace))


@pytest.mark.parametrize("hook", ["", "pre-install", "post-install"])
def test_a_kind_that_the_cluster_no_longer_serves_is_refused_before_anything_is_made(
    release: OneRelease, api: Client, hook: str
):
    budget = BUDGET.replace("spec:", f"  annotations: {{helm.sh/hook: {hook}}}\nspec:", 1) if hook else BUDGET
    chart_id = upload(release.server, chart(config=CONFIG, budget=budget))
    old = {"values": {"old": True}}
    said = refused(release, chart_id, **old)
    assert "the cluster does not serve policy/v1beta1 PodDisruptionBudget 'web'" in said
    assert not config_maps(api, release.namespace)
    assert not secrets(api, release.namespace)
    trial = release.create(chart_id, parameters={"dry_run": True}, **old)
    assert_error(trial, *INVALID, "policy/v1beta1 PodDisruptionBudget")
    deploys(release, chart_id)


def test_a_hook_that_is_not_to_run_may_be_of_any_kind(release: OneRelease):
    budget = BUDGET.replace("spec:", "  annotations: {helm.sh/hook: pre-install}\nspec:", 1)
    chart_id = upload(release.server, chart(config=CONFIG, budget=budget))
    deploys(release, chart_id, values={"old": True}, parameters={"no_hooks": True})


def test_a_chart_that_asks_the_cluster_for_its_kinds_is_not_refused_for_what_it_would_not_make(release: OneRelease):
    careful = CAREFUL + BUDGET + "{{ end }}\n"
    chart_id = upload(release.server, chart(config=CONFIG, budget=careful))
    deploys(release, chart_id, values={"old": True})
    assert "PodDisruptionBudget" not in release.helm("get", "manifest", "web", "-n", release.namespace)


CAREFUL = '{{ if .Capabilities.APIVersions.Has "policy/v1beta1" }}\n'


def test_hooks_of_a_chart_that_asks_the_cluster_are_looked_at_as_it_would_make_them(release: OneRelease):
    hook = BUDGET.replace("spec:", "  annotations: {helm.sh/hook: pre-install}\nspec:", 1)
    careful = CAREFUL + hook + "{{ end }}\n"
    chart_id = upload(release.server, chart(config=CONFIG, careful=careful, hook=hook_job_template("post-install")))
    deploys(release, chart_id, values={"old": True})
    other = OneRelease(release.server, release.namespace, "other", release.helm)
    careless = upload(release.server, chart(config=CONFIG, careful=careful, budget=hook))
    assert other.create(careless, values={"old": True}).status_code == 201
    failed = other.settled()
    assert "does not serve policy/v1beta1 PodDisruptionBudget 'other' (a hook)" in failed["status_description"], failed


def test_an_upgrade_to_a_kind_that_is_not_served_leaves_the_release_as_it_is(release: OneRelease):
    chart_id = upload(release.server, chart(config=CONFIG, budget=BUDGET))
    deploys(release, chart_id)
    assert release.update(chart_id=chart_id, values={"old": True}).status_code == 200
    after = release.settled()
    assert release.statuses() == ["deployed"]
    assert "policy/v1beta1" in after["status_description"], after


@pytest.fixture
def limited(server: RunningServer, namespace: str, kubernetes: RunningCluster) -> Iterator[LimitedAccount]:
    with limited_account(server, kubernetes.kubeconfig, namespace=namespace, rules=[CONFIG_MAPS]) as account:
        yield account


def test_missing_rights_of_the_account_are_named_and_nothing_is_made(
    limited: LimitedAccount, api: Client, helm_cli: HelmCommand
):
    release = OneRelease(limited.server, limited.namespace, "web", helm_cli)
    chart_id = upload(limited.server, chart(a=CONFIG, hook=hook_job_template("post-install")))
    for _ in range(2):  # what was refused is asked for again, not remembered
        said = refused(release, chart_id)
        assert "the cluster's account may not get jobs.batch in namespace" in said
        for verb in ("list", "watch", "create", "patch", "delete"):
            assert f"{verb} jobs.batch" in said
        assert "configmaps" not in said
        assert not config_maps(api, release.namespace)
        assert release.delete().status_code == 200
    limited.allow(CONFIG_MAPS, JOBS)
    deploys(release, chart_id)


def test_missing_rights_for_the_hooks_of_a_chart_that_asks_the_cluster_are_found(
    limited: LimitedAccount, api: Client, helm_cli: HelmCommand
):
    release = OneRelease(limited.server, limited.namespace, "web", helm_cli)
    careful = CAREFUL + BUDGET + "{{ end }}\n"
    chart_id = upload(limited.server, chart(a=CONFIG, budget=careful, hook=hook_job_template("pre-install")))
    assert "may not get jobs.batch in namespace" in refused(release, chart_id)
    limited.allow(CONFIG_MAPS, PolicyRule(apiGroups=["batch"], resources=["jobs"], verbs=["get", "create", "patch"]))
    assert "may not list jobs.batch in namespace" in refused(release, chart_id)
    assert not config_maps(api, release.namespace)
    limited.allow(CONFIG_MAPS, JOBS)
    deploys(release, chart_id)


def test_a_rollback_without_the_rights_for_it_is_refused_at_once(limited: LimitedAccount, helm_cli: HelmCommand):
    release = OneRelease(limited.server, limited.namespace, "web", helm_cli)
    chart_id = upload(limited.server, config_map_chart(f"pre-{uuid.uuid4().hex[:8]}"))
    deploys(release, chart_id)
    assert release.update(chart_id=chart_id).status_code == 200
    assert release.settled()["version"] == 2
    limited.allow()
    assert_error(release.rollback(1), *INVALID, "the cluster's account may not get configmaps")
    assert release.statuses() == ["superseded", "deployed"]
    limited.allow(CONFIG_MAPS)
    assert release.rollback(1).status_code == 200
    assert release.settled()["version"] == 3


def test_rights_to_named_objects_are_rights(limited: LimitedAccount, helm_cli: HelmCommand):
    create = PolicyRule(apiGroups=[""], resources=["configmaps"], verbs=["create"])
    named = PolicyRule(apiGroups=[""], resources=["configmaps"], verbs=["get", "patch"], resourceNames=["web-config"])
    limited.allow(create, named)
    chart_id = upload(limited.server, config_map_chart(f"pre-{uuid.uuid4().hex[:8]}"))
    deploys(OneRelease(limited.server, limited.namespace, "web", helm_cli), chart_id)
    other = OneRelease(limited.server, limited.namespace, "other", helm_cli)
    assert other.create(chart_id).status_code == 201
    assert "may not get configmaps" in other.settled()["status_description"]


def large(size: int) -> dict[str, bytes]:
    """Return a file that does not get smaller."""
    return {"data/noise.bin": os.urandom(size)}


def test_a_release_that_does_not_fit_into_its_secret_is_refused_with_its_largest_parts(
    release: OneRelease, api: Client
):
    name = f"pre-{uuid.uuid4().hex[:8]}"
    templates, values = {"config.yaml": CONFIG}, {"text": "x"}
    heavy = build_chart(name, templates=templates, values=values, files=large(900 * 1024))
    said = refused(release, upload(release.server, heavy))
    assert "KiB in its Helm Secret, and Kubernetes allows 1024 KiB" in said
    assert "the largest parts, compressed: file data/noise.bin 12" in said
    assert not config_maps(api, release.namespace)
    # so near the limit that only Helm's own packing tells
    near = build_chart(name, "0.1.1", templates=templates, values=values, files=large(783_500))
    said = refused(release, upload(release.server, near))
    assert "does not fit into its Helm Secret" in said
    assert "Too long" in said
    light = build_chart(name, "0.2.0", templates=templates, values=values, files=large(700 * 1024))
    deploys(release, upload(release.server, light))


def test_a_release_that_is_too_large_to_be_read_back_is_refused_however_well_it_packs(release: OneRelease, api: Client):
    name = f"pre-{uuid.uuid4().hex[:8]}"
    templates, values = {"config.yaml": CONFIG}, {"text": "x"}
    files = {f"data/{number}.txt": bytes(4_000_000) for number in range(7)}
    said = refused(release, upload(release.server, build_chart(name, templates=templates, values=values, files=files)))
    assert "KiB in its Helm Secret, and at most 32768 KiB are read of one" in said
    assert not config_maps(api, release.namespace)
    del files["data/6.txt"]
    deploys(
        release, upload(release.server, build_chart(name, "0.2.0", templates=templates, values=values, files=files))
    )


def test_values_that_make_a_release_too_large_are_named(release: OneRelease):
    chart_id = upload(release.server, config_map_chart(f"pre-{uuid.uuid4().hex[:8]}"))
    noise = base64.b64encode(os.urandom(820 * 1024)).decode()
    said = refused(release, chart_id, values={"unused": noise})
    assert "the values of the request" in said


WIDGET = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


def test_no_crd_is_installed_for_a_release_that_cannot_be(release: OneRelease, api: Client):
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    crd = f"widgets.{group}"
    widget = f"apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: w}}\n"
    files = {"crds/widget.yaml": WIDGET.replace("GROUP", group)}
    need = '{{ required "text is needed" .Values.text }}'
    templates = {"config.yaml": config_map_template(data=need), "widget.yaml": widget}
    chart_id = upload(
        release.server,
        build_chart(f"pre-{uuid.uuid4().hex[:8]}", templates=templates, files=files, values={"text": ""}),
    )

    def crds() -> list[str | None]:
        return [one.metadata.name for one in api.list(CustomResourceDefinition) if one.metadata]

    try:
        assert "text is needed" in refused(release, chart_id)
        assert crd not in crds()
        foreign = ConfigMap(metadata=ObjectMeta(name="web-config", namespace=release.namespace))
        api.create(foreign)
        said = refused(release, chart_id, values={"text": "x"})
        assert 'ConfigMap "web-config" in namespace' in said
        assert "exists and cannot be imported" in said
        assert crd not in crds()
        api.delete(ConfigMap, "web-config", namespace=release.namespace)
        deploys(release, chart_id, values={"text": "x"})
        assert crd in crds()
    finally:
        if crd in crds():
            api.delete(CustomResourceDefinition, crd)


def test_an_object_of_nobody_stands_in_the_way_before_anything_is_made(release: OneRelease, api: Client):
    chart_id = upload(release.server, chart(config=CONFIG, second=config_map_template("second")))
    api.create(ConfigMap(metadata=ObjectMeta(name="web-second", namespace=release.namespace)))
    said = refused(release, chart_id)
    assert 'ConfigMap "web-second" in namespace' in said
    assert "exists and cannot be imported into the current release" in said
    assert config_maps(api, release.namespace) == ["web-second"]
    api.delete(ConfigMap, "web-second", namespace=release.namespace)
    deploys(release, chart_id)

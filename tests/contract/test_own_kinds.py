"""Kinds that a release brings itself: what ``helm`` installs with them is installed, and updated, and tried."""

import json
from collections.abc import Iterator
from http import HTTPStatus

import pytest
import yaml
from lightkube import ApiError, Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition

from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.GROUP
  annotations: {ANNOTATIONS}
spec:
  group: GROUP
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
WIDGET = """\
apiVersion: GROUP/v1
kind: Widget
metadata:
  name: "{{ .Release.Name }}-w"
  annotations: {ANNOTATIONS}
spec: {size: 3}
"""
AFTER = '"helm.sh/hook": "post-install,post-upgrade", "helm.sh/hook-weight": "5"'
BEFORE = '"helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-weight": "-5"'
LATE_BEFORE = BEFORE.replace("-5", "5")
CONFIG = config_map_template()


@pytest.fixture
def group(namespace: str, kubernetes: RunningCluster) -> Iterator[str]:
    """Yield an API group of this test's own."""
    name = f"{namespace}.example.com"
    yield name
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        try:
            api.delete(CustomResourceDefinition, f"widgets.{name}")
        except ApiError as error:
            if error.status.code != HTTPStatus.NOT_FOUND:
                raise


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "own", helm_cli)


def filled(template: str, group: str, annotations: str = "") -> str:
    return template.replace("GROUP", group).replace("ANNOTATIONS", annotations)


def upload(server: RunningServer, group: str, version: str, archive_of: dict[str, str], *, crds: str = "") -> str:
    subchart = {one: text for one, text in archive_of.items() if one.startswith("sub-")}
    own = {one: text for one, text in archive_of.items() if one not in subchart}
    archive = build_chart(
        group.partition(".")[0],
        version,
        templates={f"{one}.yaml": text for one, text in own.items()} | {"config.yaml": CONFIG},
        values={"text": "x"},
        files={"crds/widget.yaml": crds} if crds else {},
        unpacked_subcharts=[build_chart("sub", templates={f"{one}.yaml": text for one, text in subchart.items()})]
        if subchart
        else [],
        metadata={"dependencies": [{"name": "sub", "version": "0.1.0", "repository": ""}]} if subchart else {},
    )
    answer = server.upload(archive)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def assert_deployed(release: OneRelease) -> None:
    settled = release.settled()
    assert settled["status"] == "DEPLOYED", settled["status_description"]


def widgets(release: OneRelease, group: str, kubernetes: RunningCluster) -> list[str]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        path = f"/apis/{group}/v1/namespaces/{release.namespace}/widgets"
        found = json.loads(api._client._client.get(path).text)
    return [one["metadata"]["name"] for one in found["items"]]


HOOKED = {
    "its templates": {"crd": (CRD, ""), "widget": (WIDGET, AFTER)},
    "an earlier hook": {"crd": (CRD, BEFORE), "widget": (WIDGET, LATE_BEFORE)},
    "a hook before the manifest": {"crd": (CRD, BEFORE), "widget": (WIDGET, AFTER)},
    "its subchart": {"sub-crd": (CRD, ""), "widget": (WIDGET, AFTER)},
}


@pytest.mark.parametrize("brought_by", HOOKED)
def test_a_hook_may_be_of_a_kind_that_the_release_brings(
    release: OneRelease, group: str, kubernetes: RunningCluster, brought_by: str
):
    templates = {one: filled(text, group, marks) for one, (text, marks) in HOOKED[brought_by].items()}
    chart_id = upload(release.server, group, "0.1.0", templates)
    trial = release.create(chart_id, parameters={"dry_run": True})
    assert trial.status_code == 201, trial.text
    assert release.create(chart_id).status_code == 201
    assert_deployed(release)
    assert widgets(release, group, kubernetes) == ["own-w"]
    assert release.statuses() == ["deployed"]
    answer = release.update(chart_id=chart_id, values={"text": "y"}, parameters={"include_hooks": True})
    assert answer.is_success, answer.text
    assert_deployed(release)


def test_an_update_may_bring_a_kind_for_its_own_hooks(release: OneRelease, group: str, kubernetes: RunningCluster):
    """cert-manager#4596."""
    first = upload(release.server, group, "0.1.0", {})
    templates = {one: filled(text, group, marks) for one, (text, marks) in HOOKED["a hook before the manifest"].items()}
    second = upload(release.server, group, "0.2.0", templates)
    release.create(first)
    assert_deployed(release)
    trial = release.update(chart_id=second, parameters={"include_hooks": True, "dry_run": True})
    assert trial.is_success, trial.text
    assert release.update(chart_id=second, parameters={"include_hooks": True}).is_success
    assert_deployed(release)
    assert widgets(release, group, kubernetes) == ["own-w"]


def test_a_hook_before_the_manifest_does_not_find_what_that_defines(release: OneRelease, group: str):
    """As with helm, but nothing is made first."""
    templates = {"crd": filled(CRD, group), "widget": filled(WIDGET, group, BEFORE)}
    chart_id = upload(release.server, group, "0.1.0", templates)
    assert_error(release.create(chart_id, parameters={"dry_run": True}), 400, "CCE.01400001", "(a hook)")


def test_a_chart_that_looks_up_a_kind_of_its_own_installs(release: OneRelease, group: str, kubernetes: RunningCluster):
    """rancher/fleet#5630: what helm installs is not kept from it by a trial, and a dry run renders the same."""
    count = f'{{{{ (lookup "{group}/v1" "Widget" .Release.Namespace "").items | len }}}}'
    known = f'{{{{ if .Capabilities.APIVersions.Has "{group}/v1/Widget" }}}}'
    data = f'{known}"found {count}"{{{{ else }}}}{{{{ fail "the kind is not known" }}}}{{{{ end }}}}'
    templates = {"widget": filled(WIDGET, group), "looks": config_map_template("own", data=data)}
    chart_id = upload(release.server, group, "0.1.0", templates, crds=filled(CRD, group))
    trial = release.create(chart_id, parameters={"dry_run": True})
    assert trial.status_code == 201, trial.text
    assert release.create(chart_id).status_code == 201
    assert_deployed(release)
    assert widgets(release, group, kubernetes) == ["own-w"]
    assert '"found 0"' in release.helm("get", "manifest", release.name, "-n", release.namespace)


def test_a_dry_run_takes_the_kinds_of_crds_for_granted(release: OneRelease, group: str):
    chart_id = upload(release.server, group, "0.1.0", {"widget": filled(WIDGET, group)}, crds=filled(CRD, group))
    trial = release.create(chart_id, parameters={"dry_run": True})
    assert trial.status_code == 201, trial.text


def test_kinds_that_have_gone_since_stop_a_rollback_before_it_begins(
    release: OneRelease, group: str, kubernetes: RunningCluster
):
    """Helm leaves a revision pending-rollback there; here nothing changes, and with the kind back it goes on."""
    widget, crd = {"widget": filled(WIDGET, group)}, filled(CRD, group)
    first, second = (upload(release.server, group, version, widget, crds=crd) for version in ("0.1.0", "0.2.0"))
    release.create(first)
    assert_deployed(release)
    release.update(chart_id=second)
    assert_deployed(release)
    before = release.history()
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        api.delete(CustomResourceDefinition, f"widgets.{group}")
        until_served(api, group, served=False)
        unserved = f"does not serve {group}/v1 Widget 'own-w'"
        assert_error(release.update(chart_id=second, parameters={"dry_run": True}), 400, "CCE.01400001", unserved)
        assert_error(release.rollback(1, dry_run=True), 400, "CCE.01400001", unserved)
        assert_error(release.rollback(1), 400, "CCE.01400001", f"revision 1 cannot be restored: the cluster {unserved}")
        assert release.settled()["version"] == 2
        assert release.history() == before
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        api._client._client.post(definitions, json=yaml.safe_load(crd)).raise_for_status()
        until_served(api, group, served=True)
    wait_for(lambda: release.rollback(1).is_success, seconds=60)  # which kinds are served is known for a while
    assert_deployed(release)
    assert release.statuses() == ["superseded", "superseded", "deployed"]
    assert widgets(release, group, kubernetes) == ["own-w"]


def until_served(api: Client, group: str, *, served: bool) -> None:
    """Return when the API server serves the group, or no longer does."""
    wait_for(lambda: (api._client._client.get(f"/apis/{group}/v1").status_code == HTTPStatus.OK) is served, seconds=60)

"""Releases that Flux, Argo CD or an operator manage: a change that would be undone is refused, a mere mark is told."""

import base64
import gzip
import json
import uuid
from collections.abc import Callable, Iterator

import pytest
from lightkube import ApiError, Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.apiextensions_v1 import (
    CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion,
    CustomResourceValidation,
    JSONSchemaProps,
)
from lightkube.models.meta_v1 import ObjectMeta, OwnerReference
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.core_v1 import ConfigMap, Secret
from lightkube.types import PatchType

from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID = (400, "CCE.01400001")
FORBIDDEN = (403, "CCE.01403001")
CONFLICT = 409
FLUX = "helm.toolkit.fluxcd.io"
HelmRelease = create_namespaced_resource(FLUX, "v2", "HelmRelease", "helmreleases")


@pytest.fixture(scope="module")
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def helm_releases(api: Client) -> Iterator[None]:
    """Yield the cluster knows HelmReleases; nothing acts on them unless it is a cluster of somebody's with Flux."""
    schema = JSONSchemaProps(type="object", x_kubernetes_preserve_unknown_fields=True)
    version = CustomResourceDefinitionVersion(
        name="v2", served=True, storage=True, schema=CustomResourceValidation(openAPIV3Schema=schema)
    )
    names = CustomResourceDefinitionNames(kind="HelmRelease", plural="helmreleases", singular="helmrelease")
    spec = CustomResourceDefinitionSpec(group=FLUX, names=names, scope="Namespaced", versions=[version])
    name = f"helmreleases.{FLUX}"
    try:
        api.create(CustomResourceDefinition(metadata=ObjectMeta(name=name), spec=spec))
    except ApiError as error:
        if error.status.code != CONFLICT:
            raise
        yield  # somebody else's
        return
    api.wait(CustomResourceDefinition, name, for_conditions=["Established"])
    yield
    api.delete(CustomResourceDefinition, name)


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "web", helm_cli)


def upload(release: OneRelease, archive: bytes) -> str:
    answer = release.server.upload(archive)
    assert answer.status_code == 201, answer.text
    chart_id: str = answer.json()["id"]
    return chart_id


def deployed(release: OneRelease, archive: bytes) -> str:
    """Return the chart's id, once it is deployed."""
    chart_id = upload(release, archive)
    answer = release.create(chart_id)
    assert answer.status_code == 201, answer.text
    assert release.settled()["status"] == "DEPLOYED", release.settled()["status_description"]
    return chart_id


def rewrite_record(release: OneRelease, api: Client, old: str, new: str, **labels: str) -> None:
    """Another program stores revision 1 with that text in place of the old one, and with the labels."""
    name = "sh.helm.release.v1.web.v1"
    secret = api.get(Secret, name, namespace=release.namespace)
    assert secret.data is not None
    text = gzip.decompress(base64.b64decode(base64.b64decode(secret.data["release"]))).decode()
    assert old in text
    packed = base64.b64encode(base64.b64encode(gzip.compress(text.replace(old, new).encode()))).decode()
    change = {"metadata": {"labels": labels}, "data": {"release": packed}}
    api.patch(Secret, name, change, namespace=release.namespace, patch_type=PatchType.MERGE)


def new_name() -> str:
    return f"managed-{uuid.uuid4().hex[:8]}"


def warnings(release: OneRelease, operation_id: str) -> list[str]:
    events = release.server.send("GET", f"/api/v1/operations/{operation_id}/events").json()
    return [one["text"] for one in events if one["kind"] == "other_manager_found"]


@pytest.mark.usefixtures("helm_releases")
def test_what_flux_manages_is_changed_in_flux(release: OneRelease, api: Client):
    labels = f"\n  labels: {{{FLUX}/name: shop, {FLUX}/namespace: {release.namespace}}}\ndata:"
    template = config_map_template().replace("\ndata:", labels, 1)
    chart_id = deployed(release, build_chart(new_name(), templates={"c.yaml": template}, values={"text": "x"}))
    alone = release.update(chart_id=chart_id)
    assert alone.status_code == 200, alone.text
    assert "does not exist (any more)" in warnings(release, alone.headers["x-operation-id"])[0]
    assert release.settled()["version"] == 2
    shop = HelmRelease(metadata=ObjectMeta(name="shop", namespace=release.namespace), spec={"releaseName": "web"})
    api.create(shop)
    try:
        for answer in (release.update(chart_id=chart_id), release.rollback(), release.delete()):
            said = assert_error(answer, *FORBIDDEN, f"Flux HelmRelease 'shop' in namespace '{release.namespace}'")
            assert not said.startswith("Update release is forbidden")  # Terraform would wait for ever
        assert release.statuses() == ["superseded", "deployed"]
        suspend = {"spec": {"suspend": True}}
        api.patch(HelmRelease, "shop", suspend, namespace=release.namespace, patch_type=PatchType.MERGE)
        suspended = release.update(chart_id=chart_id)
        assert suspended.status_code == 200, suspended.text
        assert "is suspended" in warnings(release, suspended.headers["x-operation-id"])[0]
        assert release.settled()["version"] == 3
    finally:
        api.delete(HelmRelease, "shop", namespace=release.namespace)


def test_a_mark_of_argo_cd_on_a_live_object_is_told_with_the_change(release: OneRelease, api: Client):
    chart_id = deployed(release, config_map_chart(new_name()))
    tracking = f"{release.namespace}_shop:/ConfigMap:{release.namespace}/web-config"
    annotated = {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": tracking}}}
    api.patch(ConfigMap, "web-config", annotated, namespace=release.namespace)
    answer = release.update(chart_id=chart_id)
    assert answer.status_code == 200, answer.text
    said = warnings(release, answer.headers["x-operation-id"])[0]
    assert f"Argo CD Application 'shop' in namespace '{release.namespace}'" in said
    assert release.settled()["version"] == 2


def test_a_release_that_an_operator_owns_is_left_to_it(release: OneRelease, api: Client):
    chart_id = deployed(release, config_map_chart(new_name()))
    owner = api.create(ConfigMap(metadata=ObjectMeta(name="owner", namespace=release.namespace)))
    assert owner.metadata is not None
    reference = OwnerReference(
        apiVersion="v1", kind="ConfigMap", name="owner", uid=str(owner.metadata.uid), controller=True
    )
    own = {"metadata": {"ownerReferences": [reference.to_dict()]}}
    api.patch(Secret, "sh.helm.release.v1.web.v1", own, namespace=release.namespace)
    for answer in (release.update(chart_id=chart_id), release.delete()):
        assert_error(answer, *FORBIDDEN, "is managed by ConfigMap 'owner'")
    assert release.statuses() == ["deployed"]


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({}, "it belongs to no release"),
        ({"argocd.argoproj.io/tracking-id": "shop:/ConfigMap:x/y"}, "it is managed by Argo CD Application 'shop'"),
        (
            {"meta.helm.sh/release-name": "old", "meta.helm.sh/release-namespace": "shop"},
            "it belongs to release 'old' in namespace 'shop'",
        ),
    ],
)
def test_an_object_in_the_way_is_named_with_its_owner_and_nothing_is_made(
    release: OneRelease, api: Client, annotations: dict[str, str], words: str
):
    templates = {"a.yaml": config_map_template(), "b.yaml": config_map_template("second")}
    chart_id = upload(release, build_chart(new_name(), templates=templates, values={"text": "x"}))
    foreign = ObjectMeta(name="web-second", namespace=release.namespace, annotations=annotations)
    api.create(ConfigMap(metadata=foreign))
    assert_error(release.create(chart_id, parameters={"dry_run": True}), *INVALID, "cannot be imported", words)
    assert release.create(chart_id).status_code == 201
    failed = release.settled()
    assert failed["status"] == "FAILED"
    assert words in failed["status_description"], failed
    assert json.loads(release.helm("list", "-n", release.namespace, "-o", "json")) == []
    names = [one.metadata.name for one in api.list(ConfigMap, namespace=release.namespace) if one.metadata]
    assert "web-config" not in names
    api.delete(ConfigMap, "web-second", namespace=release.namespace)
    assert release.create(chart_id).status_code == 201
    assert release.settled()["status"] == "DEPLOYED", release.settled()["status_description"]


@pytest.mark.parametrize("marked", [True, False], ids=["flux", "unknown"])
def test_a_release_whose_objects_are_in_another_namespace_is_shown_where_its_record_is(
    release: OneRelease,
    api: Client,
    server: RunningServer,
    make_namespace: Callable[[], str],
    *,
    marked: bool,
):
    """helm-dashboard#683: what Flux keeps with a targetNamespace; it is for Flux alone to change."""
    target = make_namespace()
    labels = f"\n  labels: {{{FLUX}/name: shop, {FLUX}/namespace: {release.namespace}}}\ndata:" if marked else "\ndata:"
    template = config_map_template().replace("\ndata:", f"\n  namespace: {target}{labels}", 1)
    chart_id = deployed(release, build_chart(new_name(), templates={"c.yaml": template}, values={"text": "x"}))
    rewrite_record(release, api, f'"namespace":"{release.namespace}"', f'"namespace":"{target}"')

    (listed,) = json.loads(release.helm("list", "-n", release.namespace, "-o", "json"))
    assert listed["name"] == "web"
    shown = release.show()
    assert (shown.status_code, shown.json()["namespace"], shown.json()["status"]) == (
        200,
        release.namespace,
        "DEPLOYED",
    )
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    assert [one["name"] for one in server.send("GET", f"{path}?namespace={release.namespace}").json()] == ["web"]
    assert server.send("GET", f"{path}?namespace={target}").json() == []
    resources = server.send("GET", f"{release.path}?show_resources=true").json()["resources"]
    assert json.loads(resources)["v1/ConfigMap"][0]["metadata"]["namespace"] == target
    manager = f"Flux HelmRelease 'shop' in namespace '{release.namespace}'" if marked else "the program that made it"
    for answer in (release.update(chart_id=chart_id), release.rollback(), release.delete()):
        assert_error(answer, *FORBIDDEN, f"its objects in namespace '{target}'", manager)
    assert release.create(chart_id).status_code == CONFLICT
    assert release.statuses() == ["deployed"]
    rewrite_record(release, api, '"status":"deployed"', '"status":"failed"', status="failed")
    replaced = release.create(chart_id, parameters={"replace": True})
    assert_error(replaced, *FORBIDDEN, f"its objects in namespace '{target}'", manager)
    rewrite_record(release, api, '"status":"failed"', '"status":"pending-upgrade"', status="pending-upgrade")
    body = {"namespace": release.namespace, "name": "web", "reason": "it hung"}
    unlocked = server.send("POST", f"/api/v1/clusters/{server.cluster_id}/unlock", json_body=body)
    assert_error(unlocked, *FORBIDDEN, f"its objects in namespace '{target}'", manager)
    assert release.statuses() == ["pending-upgrade"]


def test_what_a_release_kept_is_told_and_can_be_taken_over(release: OneRelease, api: Client, server: RunningServer):
    """helm/helm#13462."""
    kept = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kept\n  annotations: {helm.sh/resource-policy: keep}\n"
    chart_id = deployed(
        release, build_chart(new_name(), templates={"kept.yaml": kept, "own.yaml": config_map_template(data='"x"')})
    )
    gone = release.delete()
    release.gone()
    events = server.send("GET", f"/api/v1/operations/{gone.headers['x-operation-id']}/events").json()
    assert [one["text"] for one in events if one["kind"] == "object_left"] == [
        "ConfigMap kept: kept, as its annotation helm.sh/resource-policy says"
    ]
    other = OneRelease(server, release.namespace, "other", release.helm)
    words = ("release 'web'", "is gone", "meta.helm.sh/release-name")
    assert_error(other.create(chart_id, parameters={"dry_run": True}), *INVALID, *words)
    marks = {"meta.helm.sh/release-name": "other", "meta.helm.sh/release-namespace": release.namespace}
    api.patch(ConfigMap, "kept", {"metadata": {"annotations": marks}}, namespace=release.namespace)
    assert other.create(chart_id).status_code == 201
    assert other.settled()["status"] == "DEPLOYED", other.settled()

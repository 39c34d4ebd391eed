"""What creates and updates may ask for besides the vendor's flags: CRDs, schema validation, the release's Namespace."""

import uuid
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import httpx2
import pytest
from lightkube import ApiError, Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.core_v1 import Namespace

from tests.contract.test_own_kinds import CRD, filled
from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID = (400, "CCE.01400001")
UNVALIDATED = {"X-Pilothouse-Skip-Schema-Validation": "true"}
NAMESPACE = """\
{{- if .Values.own }}
apiVersion: v1
kind: Namespace
metadata:
  name: {{ .Release.Namespace }}
  {{- if .Values.kept }}
  annotations: {helm.sh/resource-policy: keep}
  {{- end }}
{{- end }}
"""


@pytest.fixture(scope="module")
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as client:
        yield client


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "asked", helm_cli)


def upload(server: RunningServer, archive: bytes, parameters: str | None = None) -> str:
    answer = server.upload(archive, parameters=parameters)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def create(release: OneRelease, chart_id: str, headers: dict[str, str], **body: Any) -> httpx2.Response:
    wanted = {"chart_id": chart_id, "namespace": release.namespace, "name": release.name, **body}
    path = f"/cce/cam/v3/clusters/{release.server.cluster_id}/releases"
    return release.server.send("POST", path, json_body=wanted, headers=headers)


def assert_deployed(release: OneRelease, answer: httpx2.Response) -> None:
    assert answer.is_success, answer.text
    settled = release.settled()
    assert settled["status"] == "DEPLOYED", settled["status_description"]


@pytest.mark.parametrize(
    "schema",
    [
        '{"properties": {"text": {"$ref": "https://127.0.0.1:9/defs.json#/definitions/x"}}}',
        '{"properties": {"text": {"type": "integer"}}}',
    ],
    ids=["remote", "broken by the values"],
)
def test_a_schema_is_passed_over_when_asked(release: OneRelease, schema: str):
    archive = build_chart(
        f"schema-{uuid.uuid4().hex[:8]}",
        templates={"a.yaml": config_map_template()},
        values={"text": "x"},
        schema=schema,
    )
    chart_id = upload(release.server, archive, parameters='{"skip_lint": true}')
    assert_error(release.create(chart_id, parameters={"dry_run": True}), *INVALID, "schema")
    dry = create(release, chart_id, UNVALIDATED, parameters={"dry_run": True})
    assert dry.status_code == 201, dry.text
    assert_deployed(release, create(release, chart_id, UNVALIDATED))
    trial: dict[str, Any] = {"chart_id": chart_id, "values": {"text": "y"}, "parameters": {"dry_run": True}}
    assert_error(release.update(**trial), *INVALID, "schema")
    assert release.update(headers=UNVALIDATED, **trial).is_success
    assert_deployed(release, release.update(headers=UNVALIDATED, chart_id=chart_id, values={"text": "y"}))
    assert release.statuses() == ["superseded", "deployed"]


def test_what_lies_in_crds_is_done_with_as_asked(release: OneRelease, api: Client):
    group = f"{release.namespace}.example.com"
    name = f"widgets.{group}"

    def chart(version: str) -> str:
        crd = filled(CRD, group).replace("annotations: {}", f'annotations: {{version: "{version}"}}')
        archive = build_chart(
            f"crds-{release.namespace}",
            version,
            templates={"a.yaml": config_map_template()},
            values={"text": "x"},
            files={"crds/a.yaml": crd},
        )
        return upload(release.server, archive)

    def found() -> str | None:
        try:
            metadata = api.get(CustomResourceDefinition, name).metadata
        except ApiError as error:
            if error.status.code != HTTPStatus.NOT_FOUND:
                raise
            return None
        return (metadata.annotations or {}).get("version") if metadata else None

    first, second = chart("1.0.0"), chart("2.0.0")
    try:
        assert_deployed(release, create(release, first, {"X-Pilothouse-CRDs": "skip"}))
        assert found() is None
        assert_deployed(release, release.update(chart_id=first))
        assert found() is None
        assert_deployed(release, release.update(chart_id=first, headers={"X-Pilothouse-CRDs": "create"}))
        assert found() == "1.0.0"
        assert_deployed(release, release.update(chart_id=second, headers={"X-Pilothouse-CRDs": "create"}))
        assert found() == "1.0.0"
        assert_deployed(release, release.update(chart_id=second, headers={"X-Pilothouse-CRDs": "REPLACE"}))
        assert found() == "2.0.0"
    finally:
        if found() is not None:
            api.delete(CustomResourceDefinition, name)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("X-Pilothouse-CRDs", "delete"),
        ("X-Pilothouse-CRDs", "true"),
        ("X-Pilothouse-Skip-Schema-Validation", "yes"),
        ("X-Pilothouse-Remove-Namespace", "1"),
    ],
)
def test_what_is_no_such_word_is_refused(release: OneRelease, header: str, text: str):
    assert_error(release.update(chart_id="x", headers={header: text}), *INVALID, header, text)
    if "Namespace" not in header:
        assert_error(create(release, "x", {header: text}), *INVALID, header, text)


@pytest.fixture
def owning(release: OneRelease, api: Client) -> str:
    """Return the chart; the release's Namespace bears its marks."""
    marks = {"meta.helm.sh/release-name": release.name, "meta.helm.sh/release-namespace": release.namespace}
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    api.patch(Namespace, release.namespace, {"metadata": {"annotations": marks, "labels": labels}})
    archive = build_chart(
        f"owning-{uuid.uuid4().hex[:8]}",
        templates={"ns.yaml": NAMESPACE, "a.yaml": config_map_template()},
        values={"text": "x", "own": True, "kept": False},
    )
    return upload(release.server, archive)


def is_ending(api: Client, name: str) -> bool:
    metadata = api.get(Namespace, name).metadata
    return metadata is not None and metadata.deletionTimestamp is not None


def test_an_update_that_drops_the_releases_namespace_is_refused_unless_asked_for(
    release: OneRelease, api: Client, owning: str
):
    """mcp-mesh#1413."""
    assert_deployed(release, release.create(owning))
    without: dict[str, Any] = {"chart_id": owning, "values": {"own": False}}
    words = (f"Namespace '{release.namespace}'", "X-Pilothouse-Remove-Namespace")
    assert_error(release.update(**without, parameters={"dry_run": True}), *INVALID, *words)
    assert release.update(**without).is_success
    failed = release.settled()
    assert words[0] in failed["status_description"], failed
    assert release.statuses() == ["deployed"]
    assert not is_ending(api, release.namespace)
    asked = {"X-Pilothouse-Remove-Namespace": "true"}
    assert release.update(**without, parameters={"dry_run": True}, headers=asked).is_success
    assert release.update(**without, headers=asked).is_success
    release.show()
    assert is_ending(api, release.namespace)


def test_a_rollback_that_drops_the_releases_namespace_is_refused(release: OneRelease, api: Client, owning: str):
    assert_deployed(release, release.create(owning, values={"own": False}))
    assert_deployed(release, release.update(chart_id=owning, values={"own": True}))
    assert_error(release.rollback(1), *INVALID, f"Namespace '{release.namespace}'")
    assert release.statuses() == ["superseded", "deployed"]
    assert not is_ending(api, release.namespace)


def test_a_namespace_that_is_to_be_kept_may_be_dropped(release: OneRelease, api: Client, owning: str):
    assert_deployed(release, release.create(owning, values={"own": True, "kept": True}))
    assert_deployed(release, release.update(chart_id=owning, values={"own": False}))
    assert not is_ending(api, release.namespace)

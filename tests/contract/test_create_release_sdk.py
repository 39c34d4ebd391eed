"""The vendor's own Python client makes a release, and the independent helm judges it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huaweicloudsdkcce.v3 import (
    CreateReleaseReqBody,
    CreateReleaseReqBodyValues,
    CreateReleaseRequest,
    ListChartsRequest,
    ListReleasesRequest,
    ReleaseReqBodyParams,
    ShowChartRequest,
    ShowReleaseRequest,
    UploadChartRequest,
    UploadChartRequestBody,
)
from huaweicloudsdkcore.http.formdata import FormFile

from tests.support.charts import build_chart
from tests.support.servers import RunningServer

TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  image: {{ .Values.imageTag | quote }}
  policy: {{ .Values.imagePullPolicy }}
"""
RELEASE_FIELDS = {
    "chart_name": str,
    "chart_public": bool,
    "chart_version": str,
    "cluster_id": str,
    "cluster_name": str,
    "create_at": str,
    "description": str,
    "name": str,
    "namespace": str,
    "parameters": str,
    "resources": str,
    "status": str,
    "status_description": str,
    "update_at": str,
    "values": str,
    "version": int,
}


@pytest.fixture(scope="module")
def chart_id(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a chart like the page's, uploaded by the SDK."""
    archive = tmp_path_factory.mktemp("chart") / "magento-mysql-1.0.0.tgz"
    archive.write_bytes(
        build_chart(
            "magento-mysql",
            "1.0.0",
            templates={"map.yaml": TEMPLATE},
            values={"imageTag": "v1", "imagePullPolicy": "Always", "nested": {"kept": 1}},
        )
    )
    with archive.open("rb") as file:
        body = UploadChartRequestBody(content=FormFile(file), parameters='{"override": true}')
        return str(server.sdk().upload_chart(UploadChartRequest(body=body)).id)


def test_the_sdk_creates_shows_and_lists_a_release_that_helm_confirms(
    server: RunningServer, chart_id: str, namespace: str, helm_cli: Callable[..., str]
):
    client = server.sdk()
    made = client.create_release(
        CreateReleaseRequest(
            cluster_id=server.cluster_id,
            body=CreateReleaseReqBody(
                chart_id=chart_id,
                name="nino21",
                namespace=namespace,
                version="1.0.0",
                values=CreateReleaseReqBodyValues(image_pull_policy="IfNotPresent", image_tag="v2"),
                parameters=ReleaseReqBodyParams(dry_run=False, name_template="", no_hooks=False, replace=False),
            ),
        )
    )
    assert (made.status_code, made.status, made.version) == (201, "PENDING_INSTALL", 1)
    assert made.description == "Initial install underway"

    show = ShowReleaseRequest(cluster_id=server.cluster_id, namespace=namespace, name="nino21")
    until = time.monotonic() + 60
    while (release := client.show_release(show)).status == "PENDING_INSTALL" and time.monotonic() < until:
        time.sleep(0.1)
    assert (release.status, release.status_description) == ("DEPLOYED", "Install complete")

    listed = client.list_releases(ListReleasesRequest(cluster_id=server.cluster_id, namespace=namespace)).body
    assert [one.name for one in listed] == ["nino21"]
    by_helm = json.loads(helm_cli("list", "-n", namespace, "-o", "json"))
    assert [(one["name"], one["status"], one["chart"]) for one in by_helm] == [
        ("nino21", "deployed", "magento-mysql-1.0.0")
    ]
    values = json.loads(helm_cli("get", "values", "nino21", "-n", namespace, "--all", "-o", "json"))
    assert json.loads(release.values) == values
    assert values == {"imageTag": "v2", "imagePullPolicy": "IfNotPresent", "nested": {"kept": 1}}
    history = json.loads(helm_cli("history", "nino21", "-n", namespace, "-o", "json"))
    assert [(one["revision"], one["description"]) for one in history] == [(1, release.status_description)]


def test_the_published_request_gets_exactly_the_16_fields(server: RunningServer, chart_id: str, namespace: str):
    answer = server.create(
        name="nino21",
        namespace=namespace,
        version="1.0.0",
        chart_id=chart_id,
        values={"imageTag": "v2", "imagePullPolicy": "IfNotPresent"},
        parameters={"dry_run": False, "no_hooks": False, "replace": False, "name_template": ""},
    )
    assert answer.status_code == 201
    assert {name: type(value) for name, value in answer.json().items()} == RELEASE_FIELDS
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-operation-id"]
    assert server.wait_until_final(namespace, "nino21")["status"] == "DEPLOYED"


def test_a_release_that_helm_made_is_shown_and_listed(
    server: RunningServer, namespace: str, helm_cli: Callable[..., str], tmp_path: Path
):
    archive = tmp_path / "by-hand-2.1.0.tgz"
    archive.write_bytes(build_chart("by-hand", "2.1.0", templates={"map.yaml": TEMPLATE}, values={"imageTag": "x"}))
    helm_cli("install", "other", str(archive), "-n", namespace, "--set", "imagePullPolicy=Never")
    server.wait_until_shown(namespace, "other")
    shown = server.show(namespace, "other").json()
    assert (shown["status"], shown["chart_name"], shown["chart_version"]) == ("DEPLOYED", "by-hand", "2.1.0")
    assert json.loads(shown["values"]) == {"imageTag": "x", "imagePullPolicy": "Never"}
    listed = server.send("GET", f"/cce/cam/v3/clusters/{server.cluster_id}/releases?namespace={namespace}").json()
    assert listed == [shown]


def test_the_sdk_lists_and_shows_the_chart_it_uploaded(server: RunningServer, chart_id: str):
    client = server.sdk()
    listed = {chart.id: chart for chart in client.list_charts(ListChartsRequest()).body}
    shown = client.show_chart(ShowChartRequest(chart_id=chart_id))
    assert (listed[chart_id].name, shown.version, shown.chart_url) == (
        "magento-mysql",
        "1.0.0",
        "magento-mysql-1.0.0.tgz",
    )
    assert json.loads(shown.values)["nested"] == {"kept": 1}
    assert shown.create_at.endswith("Z")

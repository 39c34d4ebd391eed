"""Each signature scheme of the vendor's Python SDK against the whole server: look-up, upload, create, list."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huaweicloudsdkcce.v3 import (
    CceClient,
    CreateReleaseReqBody,
    CreateReleaseRequest,
    ListChartsRequest,
    ListReleasesRequest,
    ShowReleaseRequest,
    UploadChartRequest,
    UploadChartRequestBody,
)
from huaweicloudsdkcore.auth.credentials import BasicCredentials, Credentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.http.formdata import FormFile
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcore.signer.algorithm import SigningAlgorithm

from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer, close_sdk
from tests.support.tenants import add_tenant

SCHEMES = [*SigningAlgorithm, "V11-HMAC-SHA256"]
_number = itertools.count(1)


def connect(server: RunningServer, scheme: Any, *, secret_key: str) -> Any:
    Credentials._CACHE = {}  # so that the project look-up is signed too
    credentials = BasicCredentials(server.access_key, secret_key, None).with_iam_endpoint(server.url)
    builder = CceClient.new_builder()
    if isinstance(scheme, SigningAlgorithm):
        builder = builder.with_http_config(HttpConfig(signing_algorithm=scheme))
    else:
        # CceClient names no service for derived keys, so that the caller must.
        credentials._process_derived_auth_params("cce", "cn-north-4")
        credentials.with_derived_predicate(lambda _request: True)
    return builder.with_credentials(credentials).with_region(Region("cn-north-4", server.url)).build()


@pytest.fixture(params=SCHEMES, ids=str)
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    made = connect(server, request.param, secret_key=server.secret_key)
    yield made
    close_sdk(made)


def test_upload_create_show_and_list(client: Any, server: RunningServer, namespace: str, tmp_path: Path):
    chart = f"scheme-{next(_number)}"
    archive = tmp_path / f"{chart}-0.1.0.tgz"
    archive.write_bytes(config_map_chart(chart))
    with archive.open("rb") as file:
        form = UploadChartRequestBody(content=FormFile(file), parameters='{"override": true}')
        uploaded = client.upload_chart(UploadChartRequest(body=form))
    body = CreateReleaseReqBody(
        chart_id=uploaded.id, name=chart, namespace=namespace, version="0.1.0", values={"text": "größe 中文"}
    )
    created = client.create_release(CreateReleaseRequest(cluster_id=server.cluster_id, body=body))

    assert (created.name, created.status) == (chart, "PENDING_INSTALL")
    assert uploaded.id in {row.id for row in client.list_charts(ListChartsRequest()).body}
    listed = client.list_releases(ListReleasesRequest(cluster_id=server.cluster_id, namespace=namespace)).body
    assert [row.name for row in listed] == [chart]
    show = ShowReleaseRequest(name=chart, namespace=namespace, cluster_id=server.cluster_id, show_resources="true")
    assert client.show_release(show).name == chart


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_wrong_secret_key_is_refused(server: RunningServer, scheme: Any):
    tenant = add_tenant(server)  # wrong signatures count against their access key
    client = connect(tenant, scheme, secret_key=tenant.secret_key)
    client._credentials.sk = "w" * 40

    with pytest.raises(ClientRequestException) as caught:
        client.list_charts(ListChartsRequest())

    close_sdk(client)
    assert (caught.value.status_code, caught.value.error_code) == (401, "APIGW.0301")
    assert "verify aksk signature fail" in caught.value.error_msg

"""The whole life of a chart and a release with the vendor's SDK: all fourteen operations, one line of output each.

Environment: CLOUD_SDK_AK, CLOUD_SDK_SK, REGION, CLUSTER_ID, CHART (path of a .tgz), NAMESPACE, NAME, and the SDK's
endpoint variables (see create_release.py). The chart and the release are gone at the end.
"""

import os
import sys
import time
from pathlib import Path

from huaweicloudsdkcce.v3 import (
    CceClient,
    CreateReleaseReqBody,
    CreateReleaseReqBodyValues,
    CreateReleaseRequest,
    DeleteChartRequest,
    DeleteReleaseRequest,
    DownloadChartRequest,
    ListChartsRequest,
    ListReleasesRequest,
    ReleaseReqBodyParams,
    ShowChartRequest,
    ShowChartValuesRequest,
    ShowReleaseHistoryRequest,
    ShowReleaseRequest,
    ShowUserChartsQuotasRequest,
    UpdateChartRequest,
    UpdateChartRequestBody,
    UpdateReleaseReqBody,
    UpdateReleaseRequest,
    UploadChartRequest,
    UploadChartRequestBody,
)
from huaweicloudsdkcce.v3.region.cce_region import CceRegion
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions import exceptions
from huaweicloudsdkcore.http.formdata import FormFile

ATTEMPTS, PAUSE_SECONDS = 600, 0.5
NOT_FOUND = 404


class Lifecycle:
    def __init__(self, client: CceClient, *, cluster_id: str, namespace: str, name: str) -> None:
        self.client = client
        self.cluster_id = cluster_id
        self.namespace = namespace
        self.name = name

    def run(self, chart: Path) -> None:
        chart_id, version = self.upload(chart)
        self.read_chart(chart, chart_id)
        self.create(chart_id, version)
        self.wait_until_deployed()
        listed = self.client.list_releases(ListReleasesRequest(cluster_id=self.cluster_id, namespace=self.namespace))
        found = next(one for one in listed.body if one.name == self.name)
        print("list_releases:", found.status, found.version)
        self.update(chart_id, "upgrade", CreateReleaseReqBodyValues(image_tag="v3"), ReleaseReqBodyParams())
        self.wait_until_deployed()
        self.show_history()
        self.update(chart_id, "rollback", CreateReleaseReqBodyValues(), ReleaseReqBodyParams(release_version=1))
        self.wait_until_deployed()
        self.show_history()
        self.delete()
        self.wait_until_gone()
        self.delete_chart(chart_id)

    def upload(self, chart: Path) -> tuple[str, str]:
        with chart.open("rb") as archive:
            body = UploadChartRequestBody(content=FormFile(archive), parameters='{"override": true}')
            uploaded = self.client.upload_chart(UploadChartRequest(body=body))
        print("upload_chart:", uploaded.name, uploaded.version)
        return uploaded.id, uploaded.version

    def read_chart(self, chart: Path, chart_id: str) -> None:
        ids = [one.id for one in self.client.list_charts(ListChartsRequest()).body]
        print("list_charts:", "listed" if chart_id in ids else "not listed")
        print("show_chart:", self.client.show_chart(ShowChartRequest(chart_id=chart_id)).chart_url)
        values = self.client.show_chart_values(ShowChartValuesRequest(chart_id=chart_id)).values
        print("show_chart_values:", "values" if values else "none")
        quotas = self.client.show_user_charts_quotas(ShowUserChartsQuotasRequest()).quotas
        print("show_user_charts_quotas:", quotas.resources[0].type)
        downloaded: list[bytes] = []
        answer = self.client.download_chart(DownloadChartRequest(chart_id=chart_id))
        answer.consume_download_stream(lambda stream: downloaded.append(stream.content))
        print("download_chart:", "same bytes" if downloaded == [chart.read_bytes()] else "other bytes")
        with chart.open("rb") as archive:
            body = UpdateChartRequestBody(content=FormFile(archive))
            updated = self.client.update_chart(UpdateChartRequest(chart_id=chart_id, body=body))
        print("update_chart:", "same id" if updated.id == chart_id else "other id")

    def create(self, chart_id: str, version: str) -> None:
        body = CreateReleaseReqBody(
            chart_id=chart_id,
            name=self.name,
            namespace=self.namespace,
            version=version,
            values=CreateReleaseReqBodyValues(image_pull_policy="IfNotPresent", image_tag="v2"),
            parameters=ReleaseReqBodyParams(dry_run=False, name_template="", no_hooks=False, replace=False),
        )
        made = self.client.create_release(CreateReleaseRequest(cluster_id=self.cluster_id, body=body))
        print("create_release:", made.status, made.version)

    def update(
        self, chart_id: str, action: str, values: CreateReleaseReqBodyValues, parameters: ReleaseReqBodyParams
    ) -> None:
        body = UpdateReleaseReqBody(chart_id=chart_id, action=action, values=values, parameters=parameters)
        updated = self.client.update_release(
            UpdateReleaseRequest(cluster_id=self.cluster_id, namespace=self.namespace, name=self.name, body=body)
        )
        print("update_release:", updated.status, updated.version)

    def show_history(self) -> None:
        request = ShowReleaseHistoryRequest(cluster_id=self.cluster_id, namespace=self.namespace, name=self.name)
        revisions = self.client.show_release_history(request).body
        print("show_release_history:", ", ".join(f"{one.version} {one.status}" for one in revisions))

    def delete(self) -> None:
        request = DeleteReleaseRequest(cluster_id=self.cluster_id, namespace=self.namespace, name=self.name)
        print("delete_release:", self.client.delete_release(request).status_code)

    def delete_chart(self, chart_id: str) -> None:
        print("delete_chart:", self.client.delete_chart(DeleteChartRequest(chart_id=chart_id)).status_code)

    def wait_until_deployed(self) -> None:
        request = ShowReleaseRequest(cluster_id=self.cluster_id, namespace=self.namespace, name=self.name)
        for _ in range(ATTEMPTS):
            release = self.client.show_release(request)
            if not release.status.startswith("PENDING"):
                break
            time.sleep(PAUSE_SECONDS)
        print("show_release:", release.status, release.version)
        if release.status != "DEPLOYED":
            raise SystemExit(release.status_description)

    def wait_until_gone(self) -> None:
        request = ShowReleaseRequest(cluster_id=self.cluster_id, namespace=self.namespace, name=self.name)
        for _ in range(ATTEMPTS):
            try:
                self.client.show_release(request)
            except exceptions.ClientRequestException as error:
                if error.status_code != NOT_FOUND:
                    raise
                print("show_release:", error.status_code)
                return
            time.sleep(PAUSE_SECONDS)
        raise SystemExit(f"{self.name} is still there")


def main() -> int:
    credentials = BasicCredentials(os.environ["CLOUD_SDK_AK"], os.environ["CLOUD_SDK_SK"])
    region = CceRegion.value_of(os.environ.get("REGION", "cn-north-4"))
    client = CceClient.new_builder().with_credentials(credentials).with_region(region).build()
    lifecycle = Lifecycle(
        client,
        cluster_id=os.environ["CLUSTER_ID"],
        namespace=os.environ.get("NAMESPACE", "project01"),
        name=os.environ.get("NAME", "nino21"),
    )
    try:
        lifecycle.run(Path(os.environ["CHART"]))
    except exceptions.ServiceResponseException as error:
        print(error.status_code, error.request_id, error.error_code, error.error_msg, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

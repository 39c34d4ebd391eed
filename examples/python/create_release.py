"""Create a release with the vendor's SDK: the calls of the API reference's Create Release sample.

Everything comes from the environment, the endpoints too (the SDK reads HUAWEICLOUD_SDK_REGION_CCE_<REGION> and
HUAWEICLOUD_SDK_IAM_ENDPOINT by itself): CLOUD_SDK_AK, CLOUD_SDK_SK, REGION, CLUSTER_ID, CHART_ID, NAMESPACE, NAME.
"""

import os
import sys

from huaweicloudsdkcce.v3 import (
    CceClient,
    CreateReleaseReqBody,
    CreateReleaseReqBodyValues,
    CreateReleaseRequest,
    ReleaseReqBodyParams,
)
from huaweicloudsdkcce.v3.region.cce_region import CceRegion
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions import exceptions


def main() -> int:
    credentials = BasicCredentials(os.environ["CLOUD_SDK_AK"], os.environ["CLOUD_SDK_SK"])
    region = CceRegion.value_of(os.environ.get("REGION", "cn-north-4"))
    client = CceClient.new_builder().with_credentials(credentials).with_region(region).build()
    request = CreateReleaseRequest(
        cluster_id=os.environ["CLUSTER_ID"],
        body=CreateReleaseReqBody(
            chart_id=os.environ["CHART_ID"],
            name=os.environ.get("NAME", "nino21"),
            namespace=os.environ.get("NAMESPACE", "project01"),
            version="1.0.0",
            values=CreateReleaseReqBodyValues(image_pull_policy="IfNotPresent", image_tag="v2"),
            parameters=ReleaseReqBodyParams(dry_run=False, name_template="", no_hooks=False, replace=False),
        ),
    )
    try:
        print(client.create_release(request))
    except exceptions.ClientRequestException as error:
        print(error.status_code, error.request_id, error.error_code, error.error_msg, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
